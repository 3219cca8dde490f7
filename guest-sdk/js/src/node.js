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

/** A function of Node that throws, and says what to do. */
const unavailable = (name, remedy) => () => {
  throw new Error(`${name} is not available in plugnode: ${remedy}`);
};
const http = {
  createServer,
  // As in Node, a call without `new` makes one too.
  Server: new Proxy(HttpServer, { apply: () => new HttpServer() }),
  get: unavailable("http.get", "use fetch, and grant the host by grants.http"),
  request: unavailable("http.request", "use fetch, and grant the host by grants.http"),
};

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
  relative: (from, to) => {
    const [start, end] = [from, to].map((name) => path.resolve(name).split("/").filter(Boolean));
    let common = 0;
    while (common < start.length && start[common] === end[common]) common++;
    return [...start.slice(common).map(() => ".."), ...end.slice(common)].join("/");
  },
  parse: (name) => {
    const [base, ext] = [basename(name), path.extname(name)];
    const root = name.startsWith("/") ? "/" : "";
    return { root, dir: name.includes("/") ? path.dirname(name) : "", base, ext, name: basename(base, ext) };
  },
  format: ({ dir, root = "", base, name = "", ext = "" }) => {
    const last = base ?? name + ext;
    if (!dir) return root + last;
    return dir === root ? dir + last : `${dir}/${last}`;
  },
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
  createSecretKey: (key, encoding) => require("hash").createSecretKey(key, encoding),
  get KeyObject() {
    return require("hash").KeyObject;
  },
  constants: {},
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

for (const name of ["createPublicKey", "createPrivateKey", "createSign", "createVerify", "createCipheriv", "createDecipheriv", "scrypt", "pbkdf2"]) {
  crypto[name] = unavailable(`crypto.${name}`, "it has hashes, HMAC with secret keys, and random bytes; use a package written in JavaScript");
}

const util = {
  inspect,
  format: (...args) => format(args),
  promisify: (method) =>
    function (...args) {
      return new Promise((resolve, reject) => {
        method.call(this, ...args, (error, value) => (error ? reject(error) : resolve(value)));
      });
    },
  callbackify: (method) =>
    function (...args) {
      const done = args.pop();
      method.apply(this, args).then(
        (value) => done(null, value),
        (error) => done(error),
      );
    },
  deprecate: (method) => method,
  debuglog: () => Object.assign(() => {}, { enabled: false }),
  stripVTControlCharacters: (text) => text.replace(/\u001b\[[0-9;]*[A-Za-z]/g, ""),
  TextEncoder: globalThis.TextEncoder,
  TextDecoder: globalThis.TextDecoder,
  inherits: (child, parent) => Object.setPrototypeOf(child.prototype, parent.prototype),
  isDeepStrictEqual: (a, b) => inspect(a) === inspect(b),
  types: {
    isPromise: (value) => value instanceof Promise,
    isRegExp: (value) => value instanceof RegExp,
    isDate: (value) => value instanceof Date,
    isMap: (value) => value instanceof Map,
    isSet: (value) => value instanceof Set,
    isNativeError: (value) => value instanceof Error,
    isUint8Array: (value) => value instanceof Uint8Array,
  },
};

// ---- Streams ----

/** Packages derive classes from these when they are loaded, also if they never use them. */
class Stream extends EventEmitter {
  pipe() {
    unavailable("stream.pipe", "pass whole values instead of streams")();
  }
}
for (const name of ["Readable", "Writable", "Duplex", "Transform", "PassThrough"]) {
  Stream[name] = class extends Stream {
    constructor() {
      super();
      unavailable(`stream.${name}`, "pass whole values instead of streams")();
    }
  };
}
Stream.Stream = Stream;

// ---- Assertions ----

class AssertionError extends Error {
  name = "AssertionError";
  code = "ERR_ASSERTION";
}

/** Throws unless `is`. `message` may be the error to throw. */
function check(is, message, fallback) {
  if (is) return;
  throw message instanceof Error ? message : new AssertionError(message ?? fallback());
}
const differ = (actual, expected) => () => `expected ${inspect(expected)}, and not ${inspect(actual)}`;
const assert = (value, message) => check(value, message, () => `${inspect(value)} is not truthy`);
Object.assign(assert, {
  AssertionError,
  ok: assert,
  equal: (a, b, message) => check(a == b, message, differ(a, b)),
  notEqual: (a, b, message) => check(a != b, message, () => `expected a value other than ${inspect(b)}`),
  strictEqual: (a, b, message) => check(Object.is(a, b), message, differ(a, b)),
  notStrictEqual: (a, b, message) => check(!Object.is(a, b), message, () => `expected a value other than ${inspect(b)}`),
  deepEqual: (a, b, message) => check(util.isDeepStrictEqual(a, b), message, differ(a, b)),
  deepStrictEqual: (a, b, message) => check(util.isDeepStrictEqual(a, b), message, differ(a, b)),
  fail: (message) => check(false, message, () => "failed"),
  strict: assert,
});

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
  stream: Stream,
  assert,
  perf_hooks: { performance: globalThis.performance },
  querystring: {
    parse: (text) => {
      const values = {};
      for (const [key, value] of new URLSearchParams(text)) {
        const before = Object.hasOwn(values, key) ? values[key] : undefined;
        const all = before === undefined ? value : [before, value].flat();
        Object.defineProperty(values, key, { __proto__: null, value: all, enumerable: true, configurable: true, writable: true });
      }
      return values;
    },
    stringify: (values) => new URLSearchParams(Object.entries(values).flatMap(([key, value]) => [value].flat().map((one) => [key, one]))).toString(),
  },
  url: {
    parse: (text, isQueryParsed = false) => {
      const isAbsolute = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
      const { protocol, host, hostname, port, pathname, search, hash } = new URL(text, "http://localhost");
      const query = isQueryParsed ? module.exports.querystring.parse(search.slice(1)) : search.slice(1);
      const parts = { pathname, path: pathname + search, search, query, hash, href: text };
      return isAbsolute ? { ...parts, protocol, host, hostname, port } : { ...parts, protocol: null, host: null, hostname: null, port: null };
    },
    URL,
    URLSearchParams,
    fileURLToPath: (url) => new URL(url, "file:///").pathname,
    pathToFileURL: (name) => new URL(`file://${name}`),
  },
  timers: { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate },
  "timers/promises": { setTimeout: (delay, value) => new Promise((resolve) => setTimeout(resolve, delay, value)) },
  process: globalThis.process,
};
