// Substitutes for the modules of Node, and for packages that Socket.IO programs commonly use at startup. plugnode's own nodes
// serve pages and accept connections, so HTTP servers and Express accept all calls and do nothing.

const EventEmitter = require("events");
const internal = require("internal");
const { inspect, format } = require("inspect");

const callLater = (callback) => {
  if (typeof callback === "function") queueMicrotask(callback);
};

class HttpServer extends EventEmitter {
  listen(...args) {
    callLater(args.at(-1));
    return this;
  }
  address() {
    return { address: "0.0.0.0", family: "IPv4", port: Number(globalThis.process.env.PORT ?? 0) };
  }
  close(done) {
    callLater(done);
    return this;
  }
  setTimeout() {
    return this;
  }
}

const createServer = () => new HttpServer();
const http = { createServer, Server: HttpServer };

/** Express without effect: the frontend serves the pages. */
function express() {
  const app = () => {};
  for (const name of ["use", "set", "enable", "disable", "engine", "param"]) app[name] = () => app;
  for (const name of ["get", "post", "put", "patch", "delete", "all"]) {
    app[name] = (path, ...handlers) => {
      // With one argument, `get` reads a setting.
      if (handlers.length > 0) {
        internal.ignore(
          `the route ${name} ${JSON.stringify(String(path))} of express`,
          "plugnode serves the files of frontend.static-dir; serve other routes by another program behind the same proxy",
        );
      }
      return app;
    };
  }
  app.route = () => app;
  app.listen = (...args) => new HttpServer().listen(...args);
  app.locals = {};
  return app;
}
Object.assign(express, {
  static: () => () => {},
  json: () => () => {},
  urlencoded: () => () => {},
  Router: express,
  default: express,
});

const normalize = (path) => {
  const kept = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === ".." && kept.length > 0 && kept.at(-1) !== "..") kept.pop();
    else if (part !== ".." || !path.startsWith("/")) kept.push(part);
  }
  return (path.startsWith("/") ? "/" : "") + kept.join("/") || ".";
};
const basename = (path, suffix = "") => {
  const name = path.replace(/\/+$/, "").split("/").at(-1);
  return suffix && name.endsWith(suffix) && name !== suffix ? name.slice(0, -suffix.length) : name;
};
const path = {
  sep: "/",
  delimiter: ":",
  normalize,
  basename,
  join: (...parts) => normalize(parts.filter(Boolean).join("/")),
  resolve: (...parts) => normalize(`/${parts.reduce((all, part) => (part.startsWith("/") ? part : `${all}/${part}`), "")}`),
  dirname: (name) => name.replace(/\/+$/, "").split("/").slice(0, -1).join("/") || (name.startsWith("/") ? "/" : "."),
  extname: (name) => /[^/](\.[^./]*)$/.exec(name)?.[1] ?? "",
  isAbsolute: (name) => name.startsWith("/"),
};
path.posix = path;

const crypto = {
  webcrypto: globalThis.crypto,
  randomUUID: () => globalThis.crypto.randomUUID(),
  getRandomValues: (array) => globalThis.crypto.getRandomValues(array),
  randomBytes: (length, callback) => {
    const { Buffer } = require("buffer");
    const bytes = globalThis.crypto.getRandomValues(Buffer.alloc(length));
    if (callback) return void queueMicrotask(() => callback(null, bytes));
    return bytes;
  },
  createHash: (name) => require("hash").createHash(name),
  createHmac: (name, key) => require("hash").createHmac(name, key),
  getHashes: () => require("hash").getHashes(),
  timingSafeEqual: (one, other) => require("hash").timingSafeEqual(one, other),
  get subtle() {
    return require("hash").subtle;
  },
  randomInt: (from, to) => {
    const [low, high] = to === undefined ? [0, from] : [from, to];
    const [number] = globalThis.crypto.getRandomValues(new Uint32Array(1));
    return low + Math.floor((number / 2 ** 32) * (high - low));
  },
};

const util = {
  inspect,
  format: (...args) => format(args),
  promisify:
    (method) =>
    (...args) =>
      new Promise((resolve, reject) => {
        method(...args, (error, value) => (error ? reject(error) : resolve(value)));
      }),
  inherits: (child, parent) => Object.setPrototypeOf(child.prototype, parent.prototype),
  isDeepStrictEqual: (a, b) => inspect(a) === inspect(b),
  types: {},
};

module.exports = {
  http,
  https: http,
  express,
  cors: () => () => {},
  path,
  events: EventEmitter,
  get buffer() {
    return require("buffer");
  },
  crypto,
  util,
  url: {
    URL,
    URLSearchParams,
    fileURLToPath: (url) => new URL(url, "file:///").pathname,
    pathToFileURL: (name) => new URL(`file://${name}`),
  },
  timers: { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate },
  "timers/promises": { setTimeout: (delay, value) => new Promise((resolve) => setTimeout(resolve, delay, value)) },
  process: globalThis.process,
};
