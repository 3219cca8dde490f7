import module from "./test.js";

export const { connect, custom, ask, fire, timers, stored, reset, config, Refused } = module;
