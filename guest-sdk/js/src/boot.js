// Makes `require` and the modules that come with the runtime, and puts the web's globals in place. Runs once, before the script,
// and returns what the host calls, which no script can ask for.

(function (host, sources, config) {
  "use strict";
  // What Node has under its own names, and where it is here.
  const ALIASES = { "socket.io": "plugnode/socket.io", "socket.io-cluster": "plugnode/cluster" };
  const HIDDEN = new Set(["internal", "globals", "inspect", "source-map", "node", "boot", "events", "buffer", "hash", "fetch"]);
  const cache = new Map([["boot", { host, config }]]);

  function load(name) {
    if (cache.has(name)) return cache.get(name);
    const module = { exports: {} };
    // Before it has run: two modules may require each other.
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
      `there is no module "${name}" here: bundle packages and files into the script (plugnode build does, with esbuild); ` +
        `of Node's own there are ${Object.keys(node).join(", ")}`,
    );
    error.code = "MODULE_NOT_FOUND";
    throw error;
  }

  Object.defineProperty(globalThis, "require", { value: require, writable: true, configurable: true });
  load("globals");
  return load("internal");
})
