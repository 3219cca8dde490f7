// Loads the runtime's modules in Node: the same files as in the component, on the host of the test kit. Where Node has a module or
// global of its own, that one is used.

"use strict";

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const { host, config } = require("./host");

/** The last error of an event. The runtime only returns its text. */
const failures = { last: undefined };
/** The APIs that the program uses, such as a Server of Socket.IO: they get its events. */
const apis = [];
const cache = new Map([
  ["boot", { host, config }],
  ["buffer", { Buffer }],
  [
    "source-map",
    {
      explain(error) {
        failures.last = error;
        return String(error?.message ?? error);
      },
    },
  ],
]);

function load(name) {
  if (cache.has(name)) return cache.get(name);
  const file = path.join(__dirname, "../src", `${name.replace("plugnode/", "")}.js`);
  const module = { exports: {} };
  cache.set(name, module.exports);
  const body = vm.compileFunction(fs.readFileSync(file, "utf8"), ["module", "exports", "require"], { filename: file });
  body(module, module.exports, load);
  cache.set(name, module.exports);
  if (name === "internal") {
    const { addApi } = module.exports;
    module.exports.addApi = (api) => {
      apis.push(api);
      addApi(api);
    };
  }
  return module.exports;
}

module.exports = { load, failures, apis };
