// The part of Node's `process` that programs commonly use. `env` is the `config` table of the app's configuration.

const internal = require("internal");

/** Writes lines to the log. */
const stream = (write) => ({ isTTY: false, columns: 80, write: (text) => Boolean(write(String(text).trimEnd()) ?? true), on: () => process, once: () => process });

const process = {
  env: internal.config,
  argv: ["plugnode"],
  execArgv: [],
  pid: 1,
  title: "plugnode",
  arch: "wasm32",
  stdout: stream((text) => console.log(text)),
  stderr: stream((text) => console.error(text)),
  emitWarning: (warning) => console.warn(warning),
  platform: "wasi",
  version: "v20.0.0",
  versions: { node: "20.0.0" },
  cwd: () => "/",
  nextTick: (callback, ...args) => queueMicrotask(() => internal.run(() => callback(...args))),
  uptime: () => 0,
  hrtime: Object.assign(
    () => {
      const now = Date.now();
      return [Math.floor(now / 1000), (now % 1000) * 1e6];
    },
    { bigint: () => BigInt(Date.now()) * 1000000n },
  ),
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0 }),
  on: () => process,
  once: () => process,
  off: () => process,
  emit: () => false,
  listeners: () => [],
  exit: (code) => {
    throw new Error(`the script called process.exit(${code ?? 0})`);
  },
};

module.exports = process;
