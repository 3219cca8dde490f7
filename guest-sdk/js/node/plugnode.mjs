import module from "./plugnode.js";

export const { on, to, all, kv, state, config, context, log, Retry } = module;
export default module;
