// plugnode/test for import: the names of test.js.

import module from "./test.js";

export const { connect, custom, ask, fire, timers, stored, reset, config, Refused } = module;
