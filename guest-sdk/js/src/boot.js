// Defines `require`, the modules of the runtime and the global objects. Runs once, before the script. Returns the module
// `internal`, whose functions the runtime calls and which scripts cannot import.

(function (host, sources, config) {
  "use strict";
  // Names of npm packages, and the modules that implement them.
  const ALIASES = { "socket.io": "plugnode/socket.io", "socket.io-cluster": "plugnode/cluster" };
  // Modules that scripts cannot import.
  const HIDDEN = new Set([
    "attributes",
    "boot",
    "broadcast",
    "buffer",
    "events",
    "fetch",
    "globals",
    "handshake",
    "hash",
    "inspect",
    "internal",
    "node",
    "process",
    "socket",
    "source-map",
    "url",
  ]);
  const cache = new Map([["boot", { host, config }]]);

  function load(name) {
    if (cache.has(name)) return cache.get(name);
    const module = { exports: {} };
    // Cached before it runs, because modules may require each other.
    cache.set(name, module.exports);
    const body = (0, eval)(`(function (module, exports, require) {${sources[name]}\n})`);
    body(module, module.exports, load);
    cache.set(name, module.exports);
    return module.exports;
  }

  function require(name) {
    name = String(name);
    const wanted = ALIASES[name] ?? name;
    if (wanted in sources && !HIDDEN.has(wanted)) return load(wanted);
    const node = load("node");
    const bare = wanted.startsWith("node:") ? wanted.slice(5) : wanted;
    if (Object.hasOwn(node, bare)) return node[bare];
    const error = new Error(
      `cannot find module "${name}": bundle packages and files into the script with plugnode build, which uses esbuild; ` +
        `the modules of Node that are available are ${Object.keys(node).join(", ")}`,
    );
    error.code = "MODULE_NOT_FOUND";
    throw error;
  }

  Object.defineProperty(globalThis, "require", { value: require, writable: true, configurable: true });
  load("globals");
  return load("internal");
})
