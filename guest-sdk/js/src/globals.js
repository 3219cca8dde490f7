// The global objects that browsers and Node provide.

const { host } = require("boot");
const internal = require("internal");
const process = require("process");
const { URL, URLSearchParams } = require("url");

function define(values) {
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(globalThis, name, { __proto__: null, value, writable: true, configurable: true, enumerable: false });
  }
}

// ---- console ----

const counts = new Map();
const starts = new Map();
let indent = "";
const print =
  (level) =>
  (...args) => {
    if (internal.isMuted()) return;
    const text = require("inspect").format(args);
    host.log(level, "console", indent ? indent + text.replaceAll("\n", `\n${indent}`) : text);
  };

const console = {
  debug: print(0),
  trace: print(0),
  log: print(1),
  info: print(1),
  warn: print(2),
  error: print(3),
  dir: (value) => print(1)(value),
  table: print(1),
  assert: (is, ...args) => is || print(3)("Assertion failed", ...args),
  count: (label = "default") => {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    print(1)(`${label}: ${counts.get(label)}`);
  },
  countReset: (label = "default") => void counts.delete(label),
  time: (label = "default") => void starts.set(label, Date.now()),
  timeEnd: (label = "default") => {
    if (starts.has(label)) print(1)(`${label}: ${Date.now() - starts.get(label)}ms`);
    starts.delete(label);
  },
  group: (...args) => {
    if (args.length > 0) print(1)(...args);
    indent += "  ";
  },
  groupEnd: () => {
    indent = indent.slice(2);
  },
};

// ---- Timers ----

const timer =
  (isRepeated) =>
  (callback, delay, ...args) =>
    internal.setTimer(callback, delay, args, isRepeated);

// ---- Text ----

class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return host.encode(String(text).toWellFormed());
  }
  encodeInto(text, target) {
    const bytes = this.encode(text);
    let written = Math.min(bytes.length, target.length);
    while (written < bytes.length && written > 0 && (bytes[written] & 0xc0) === 0x80) written--;
    target.set(bytes.subarray(0, written));
    return { read: host.decode(bytes.slice(0, written), true).length, written };
  }
}

const viewOf = (bytes) => {
  if (bytes instanceof ArrayBuffer) return new Uint8Array(bytes);
  if (ArrayBuffer.isView(bytes)) return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  throw new TypeError("expected an ArrayBuffer or a view of one");
};

class TextDecoder {
  #isFatal;
  #keepsMark;
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^(utf-?8|unicode-1-1-utf-8)$/i.test(label)) throw new RangeError(`encoding ${label} is not supported, only utf-8`);
    this.#isFatal = fatal;
    this.#keepsMark = ignoreBOM;
  }
  get encoding() {
    return "utf-8";
  }
  decode(bytes = new Uint8Array()) {
    const text = host.decode(viewOf(bytes).slice(), this.#isFatal);
    return !this.#keepsMark && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

function btoa(text) {
  text = String(text);
  let encoded = "";
  for (let at = 0; at < text.length; at += 3) {
    const codes = [0, 1, 2].map((offset) => text.charCodeAt(at + offset));
    if (codes.some((code) => code > 255)) throw new DOMException("btoa accepts only characters up to U+00FF", "InvalidCharacterError");
    const [a, b, c] = codes;
    encoded += BASE64[a >> 2] + BASE64[((a & 3) << 4) | (b >> 4)];
    encoded += at + 1 < text.length ? BASE64[((b & 15) << 2) | (c >> 6)] : "=";
    encoded += at + 2 < text.length ? BASE64[c & 63] : "=";
  }
  return encoded;
}

function atob(text) {
  const digits = String(text).replace(/[\t\n\f\r ]/g, "").replace(/={1,2}$/, "");
  if (digits.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(digits)) throw new DOMException("the string is not valid base64", "InvalidCharacterError");
  let decoded = "";
  let [bits, count] = [0, 0];
  for (const digit of digits) {
    bits = ((bits << 6) | BASE64.indexOf(digit)) & 0xfff;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    decoded += String.fromCharCode((bits >> count) & 255);
  }
  return decoded;
}

// ---- Objects ----

class DOMException extends Error {
  constructor(message = "", name = "Error") {
    super(message);
    Object.defineProperty(this, "name", { __proto__: null, value: name, configurable: true });
  }
}

function structuredClone(value) {
  const seen = new Map();
  const clone = (value) => {
    if (typeof value === "function" || typeof value === "symbol") {
      throw new DOMException(`${String(value)} could not be cloned`, "DataCloneError");
    }
    if (value === null || typeof value !== "object") return value;
    if (seen.has(value)) return seen.get(value);
    const keep = (copy) => {
      seen.set(value, copy);
      return copy;
    };
    if (value instanceof Date) return keep(new Date(value.getTime()));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (value instanceof DataView) return keep(new DataView(clone(value.buffer), value.byteOffset, value.byteLength));
    if (ArrayBuffer.isView(value)) return keep(new value.constructor(clone(value.buffer), value.byteOffset, value.length));
    if (value instanceof Map) {
      const copy = keep(new Map());
      for (const [key, item] of value) copy.set(clone(key), clone(item));
      return copy;
    }
    if (value instanceof Set) {
      const copy = keep(new Set());
      for (const item of value) copy.add(clone(item));
      return copy;
    }
    if (value instanceof Error) {
      const copy = keep(new (globalThis[value.name] ?? Error)(value.message));
      Object.defineProperty(copy, "stack", { __proto__: null, value: value.stack, writable: true, configurable: true });
      return copy;
    }
    const copy = keep(Array.isArray(value) ? [] : {});
    for (const key of Object.keys(value)) copy[key] = clone(value[key]);
    return copy;
  };
  return clone(value);
}

// ---- Events ----

class Event {
  #type;
  constructor(type) {
    this.#type = String(type);
    this.target = null;
    this.defaultPrevented = false;
  }
  get type() {
    return this.#type;
  }
  preventDefault() {
    this.defaultPrevented = true;
  }
}

class EventTarget {
  #listeners = new Map();
  addEventListener(type, listener, { once = false } = {}) {
    const listeners = this.#listeners.get(type) ?? [];
    if (!listeners.some((known) => known.listener === listener)) this.#listeners.set(type, [...listeners, { listener, once }]);
  }
  removeEventListener(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) ?? []).filter((known) => known.listener !== listener));
  }
  dispatchEvent(event) {
    event.target = this;
    const handler = this[`on${event.type}`];
    if (typeof handler === "function") handler.call(this, event);
    for (const { listener, once } of this.#listeners.get(event.type) ?? []) {
      if (once) this.removeEventListener(event.type, listener);
      if (typeof listener === "function") listener.call(this, event);
      else listener.handleEvent(event);
    }
    return !event.defaultPrevented;
  }
}

class AbortSignal extends EventTarget {
  aborted = false;
  reason = undefined;
  onabort = null;
  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }
  static abort(reason) {
    const controller = new AbortController();
    controller.abort(reason);
    return controller.signal;
  }
  static timeout(delay) {
    const controller = new AbortController();
    internal.setTimer(() => controller.abort(new DOMException("the operation timed out", "TimeoutError")), delay, [], false).unref();
    return controller.signal;
  }
}

class AbortController {
  signal = new AbortSignal();
  abort(reason = new DOMException("the operation was aborted", "AbortError")) {
    if (this.signal.aborted) return;
    this.signal.aborted = true;
    this.signal.reason = reason;
    this.signal.dispatchEvent(new Event("abort"));
  }
}

// ---- Cryptography ----

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const crypto = {
  get subtle() {
    return require("hash").subtle;
  },
  getRandomValues(array) {
    const view = viewOf(array);
    if (view.length > 65536) throw new DOMException("cannot get more than 65,536 random bytes in one call", "QuotaExceededError");
    view.set(host.random(view.length));
    return array;
  },
  randomUUID() {
    const bytes = host.random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  },
};

class Performance {
  #start = Date.now();
  get timeOrigin() {
    return this.#start;
  }
  now() {
    return Date.now() - this.#start;
  }
}

define({
  globalThis,
  global: globalThis,
  self: globalThis,
  console,
  process,
  setTimeout: timer(false),
  setInterval: timer(true),
  setImmediate: (callback, ...args) => internal.setTimer(callback, 0, args, false),
  clearTimeout: internal.clearTimer,
  clearInterval: internal.clearTimer,
  clearImmediate: internal.clearTimer,
  TextEncoder,
  TextDecoder,
  btoa,
  atob,
  DOMException,
  structuredClone,
  Event,
  EventTarget,
  AbortSignal,
  AbortController,
  URL,
  URLSearchParams,
  crypto,
  performance: new Performance(),
});
// Defined on first use, because most programs do not need them and loading takes time.
for (const [module, names] of Object.entries({ buffer: ["Buffer"], fetch: ["fetch", "Headers", "Response"] })) {
  for (const name of names) {
    Object.defineProperty(globalThis, name, {
      __proto__: null,
      get() {
        const { [name]: value } = require(module);
        define({ [name]: value });
        return value;
      },
      set: (value) => define({ [name]: value }),
      configurable: true,
      enumerable: false,
    });
  }
}
if (typeof queueMicrotask !== "function") define({ queueMicrotask: (callback) => void Promise.resolve().then(callback) });
