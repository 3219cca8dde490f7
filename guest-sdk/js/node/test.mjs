import module from "./test.js";

export const { connect, custom, stored, reset, config, Refused } = module;
