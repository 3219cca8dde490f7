// plugnode for import: the names of plugnode.js.

import module from "./plugnode.js";

export const {
  on, onCustom, sendCustom, acknowledge, to, all, kv, state, schedule, presence, config, context, log, Retry,
} = module;
export default module;
