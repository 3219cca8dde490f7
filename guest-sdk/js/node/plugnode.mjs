import module from "./plugnode.js";

export const { on, to, all, kv, state, schedule, config, context, log, Retry } = module;
export default module;
