import module from "./test.js";

export const { connect, custom, fire, timers, stored, reset, config, Refused } = module;
