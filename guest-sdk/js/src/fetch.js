// `fetch` for requests and responses that fit into memory. A response resolves when its whole body has arrived.

const internal = require("internal");

/** Size limit of a response's body, in bytes. */
const MAX_BODY_BYTES = 8 << 20;
const MAX_REDIRECTS = 20;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const encoder = new TextEncoder();

class Headers {
  /** Lists of values by lower-case name. */
  #values = new Map();
  constructor(init) {
    if (init === undefined || init === null) return;
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    for (const [name, value] of pairs) this.append(name, value);
  }
  append(name, value) {
    const key = nameOf(name);
    this.#values.set(key, [...(this.#values.get(key) ?? []), valueOf(value)]);
  }
  set(name, value) {
    this.#values.set(nameOf(name), [valueOf(value)]);
  }
  delete(name) {
    this.#values.delete(nameOf(name));
  }
  has(name) {
    return this.#values.has(nameOf(name));
  }
  get(name) {
    return this.#values.get(nameOf(name))?.join(", ") ?? null;
  }
  getSetCookie() {
    return [...(this.#values.get("set-cookie") ?? [])];
  }
  forEach(callback, self) {
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  *entries() {
    for (const name of [...this.#values.keys()].sort()) {
      if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name)];
    }
  }
  *keys() {
    for (const [name] of this.entries()) yield name;
  }
  *values() {
    for (const [, value] of this.entries()) yield value;
  }
  [Symbol.iterator]() {
    return this.entries();
  }
}

function nameOf(name) {
  name = String(name);
  if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is not a valid header name`);
  return name.toLowerCase();
}

function valueOf(value) {
  value = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (/[\0\n\r]/.test(value)) throw new TypeError("the value of a header must be one line");
  return value;
}

class Response {
  #bytes;
  #isUsed = false;
  constructor(body, { status = 200, statusText = "", headers, url = "", redirected = false } = {}) {
    const [bytes, type] = bodyOf(body);
    this.#bytes = bytes ?? new Uint8Array();
    this.type = "default";
    this.status = status;
    this.statusText = statusText;
    this.headers = new Headers(headers);
    if (type && !this.headers.has("content-type")) this.headers.set("content-type", type);
    this.url = url;
    this.redirected = redirected;
  }
  get ok() {
    return this.status >= 200 && this.status <= 299;
  }
  get bodyUsed() {
    return this.#isUsed;
  }
  async bytes() {
    if (this.#isUsed) throw new TypeError("the body of this response was already read");
    this.#isUsed = true;
    return this.#bytes;
  }
  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }
  async text() {
    return new TextDecoder().decode(await this.bytes());
  }
  async json() {
    return JSON.parse(await this.text());
  }
  clone() {
    if (this.#isUsed) throw new TypeError("the body of this response was already read");
    return new Response(this.#bytes.slice(), this);
  }
  static json(value, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(JSON.stringify(value), { ...init, headers });
  }
}

/** The bytes of a body, and its default content type. */
function bodyOf(body) {
  if (body === undefined || body === null) return [];
  if (typeof body === "string") return [encoder.encode(body), "text/plain;charset=UTF-8"];
  if (body instanceof URLSearchParams) return [encoder.encode(String(body)), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (body instanceof ArrayBuffer) return [new Uint8Array(body.slice(0))];
  if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice()];
  throw new TypeError("a body must be a string, bytes or URLSearchParams; for an object, pass JSON.stringify(object)");
}

async function fetch(input, init = {}) {
  const { signal, redirect = "follow" } = init;
  let method = String(init.method ?? "GET");
  if (/^(get|head|post|put|delete|options|patch)$/i.test(method)) method = method.toUpperCase();
  if (!NAME.test(method) || /^(connect|trace|track)$/i.test(method)) throw new TypeError(`fetch does not support the method ${method}`);
  let [body, type] = bodyOf(init.body);
  if (body && (method === "GET" || method === "HEAD")) throw new TypeError(`a ${method} request cannot have a body`);
  const headers = new Headers(init.headers);
  if (type && !headers.has("content-type")) headers.set("content-type", type);
  if (!headers.has("accept")) headers.set("accept", "*/*");
  if (!headers.has("user-agent")) headers.set("user-agent", "plugnode");
  let url = new URL(input);
  for (let redirects = 0; ; redirects++) {
    signal?.throwIfAborted();
    const answer = await send(method, url, headers, body, signal);
    const place = REDIRECTS.has(answer.status) ? answer.headers.get("location") : null;
    if (place === null || redirect === "manual") return new Response(answer.body, { ...answer, url: url.href, redirected: redirects > 0 });
    if (redirect === "error") throw failedTo(method, url, "redirected, although `redirect` is \"error\"");
    if (redirects === MAX_REDIRECTS) throw failedTo(method, url, `redirected more than ${MAX_REDIRECTS} times`);
    const next = new URL(place, url.href);
    if (next.origin !== url.origin) for (const name of ["authorization", "cookie"]) headers.delete(name);
    if (answer.status === 303 ? method !== "HEAD" : answer.status < 303 && method === "POST") {
      [method, body] = ["GET", undefined];
      for (const name of ["content-type", "content-length"]) headers.delete(name);
    }
    url = next;
  }
}

const failedTo = (method, url, reason) => new TypeError(`fetch failed: ${method} ${url.href}: ${reason}`);

/** Sends one request, without following redirects. */
function send(method, url, headers, body, signal) {
  if (url.protocol !== "http:" && url.protocol !== "https:") throw failedTo(method, url, "only http: and https: are supported");
  if (url.username || url.password) throw failedTo(method, url, "credentials are not allowed in the URL; send them in the header `authorization`");
  const sent = new Headers(headers);
  if (body || method === "POST" || method === "PUT") sent.set("content-length", body?.length ?? 0);
  const line = [method, url.protocol.slice(0, -1), url.host, url.pathname + url.search];
  const args = [line, [...sent].flat(), body, MAX_BODY_BYTES];
  return new Promise((resolve, reject) => {
    const stop = () => signal?.removeEventListener("abort", aborted);
    const cancel = internal.request(`${method} ${url.href}`, args, ({ status, headers, body, error, isDenied }) => {
      stop();
      if (error === undefined) return resolve({ status, headers: new Headers(pairs(headers)), body });
      reject(isDenied ? failedTo(method, url, denied(url.host)) : failedTo(method, url, error));
    });
    const aborted = () => {
      stop();
      cancel();
      reject(signal.reason);
    };
    signal?.addEventListener("abort", aborted);
  });
}

const denied = (host) =>
  `this app is not granted requests to ${host}: add it to \`http\` in the app's \`grants\`, as in grants = { http = [${JSON.stringify(host)}] }`;

function* pairs(flat) {
  for (let at = 0; at + 1 < flat.length; at += 2) yield [flat[at], flat[at + 1]];
}

module.exports = { fetch, Headers, Response };
