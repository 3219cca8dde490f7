import module from "./plugnode.js";

export const { on, onCustom, acknowledge, to, all, kv, state, schedule, config, context, log, Retry } = module;
export default module;
