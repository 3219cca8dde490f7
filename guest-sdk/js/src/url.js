// URL and URLSearchParams, for URLs with a host or an opaque scheme.

const percent = (text, kept) => encodeURIComponent(text.toWellFormed()).replace(/[!'()*~]|%20/g, kept);
const formEncode = (text) =>
  percent(text, (found) => (found === "%20" ? "+" : found === "*" ? "*" : `%${found.charCodeAt(0).toString(16).toUpperCase()}`));
const formDecode = (text) => {
  text = text.replaceAll("+", " ");
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

class URLSearchParams {
  #pairs = [];
  #changed;
  constructor(init = "", changed) {
    this.#changed = changed;
    if (typeof init === "object" && init !== null) {
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      for (const [name, value] of pairs) this.#pairs.push([String(name), String(value)]);
      return;
    }
    for (const part of String(init).replace(/^\?/, "").split("&")) {
      if (part === "") continue;
      const at = part.indexOf("=");
      this.#pairs.push(at < 0 ? [formDecode(part), ""] : [formDecode(part.slice(0, at)), formDecode(part.slice(at + 1))]);
    }
  }
  get size() {
    return this.#pairs.length;
  }
  append(name, value) {
    this.#pairs.push([String(name), String(value)]);
    this.#changed?.();
  }
  delete(name) {
    this.#pairs = this.#pairs.filter(([known]) => known !== name);
    this.#changed?.();
  }
  get(name) {
    return this.#pairs.find(([known]) => known === name)?.[1] ?? null;
  }
  getAll(name) {
    return this.#pairs.filter(([known]) => known === name).map(([, value]) => value);
  }
  has(name) {
    return this.#pairs.some(([known]) => known === name);
  }
  set(name, value) {
    const at = this.#pairs.findIndex(([known]) => known === name);
    if (at < 0) return this.append(name, value);
    this.#pairs = this.#pairs.filter(([known], index) => known !== name || index === at);
    this.#pairs[at] = [String(name), String(value)];
    this.#changed?.();
  }
  sort() {
    this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#changed?.();
  }
  forEach(callback, self) {
    for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
  }
  keys() {
    return this.#pairs.map(([name]) => name)[Symbol.iterator]();
  }
  values() {
    return this.#pairs.map(([, value]) => value)[Symbol.iterator]();
  }
  entries() {
    return this.#pairs.map((pair) => [...pair])[Symbol.iterator]();
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  toString() {
    return this.#pairs.map(([name, value]) => `${formEncode(name)}=${formEncode(value)}`).join("&");
  }
}

const PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21" };

/** URLs with a host or an opaque scheme. Host names are only converted to lower case, without IDNA. */
class URL {
  constructor(text, base) {
    const parts = parseUrl(String(text), base === undefined ? undefined : new URL(base));
    if (!parts) throw new TypeError(`Invalid URL: ${text}`);
    Object.assign(this, parts);
    const params = new URLSearchParams(parts.search, () => {
      const search = params.toString();
      this.search = search && `?${search}`;
    });
    Object.defineProperty(this, "searchParams", { __proto__: null, value: params, enumerable: false });
  }
  get host() {
    return this.port ? `${this.hostname}:${this.port}` : this.hostname;
  }
  get origin() {
    return this.protocol in PORTS ? `${this.protocol}//${this.host}` : "null";
  }
  get href() {
    const user = this.username && `${this.username}${this.password && `:${this.password}`}@`;
    const place = this.hostname || this.protocol === "file:" ? `//${user}${this.host}` : "";
    return `${this.protocol}${place}${this.pathname}${this.search}${this.hash}`;
  }
  toString() {
    return this.href;
  }
  toJSON() {
    return this.href;
  }
  static canParse(text, base) {
    try {
      return Boolean(new URL(text, base));
    } catch {
      return false;
    }
  }
}

function parseUrl(text, base) {
  const match = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/s.exec(text.trim());
  if (!match) return undefined;
  let [, scheme, authority, path, search = "", hash = ""] = match;
  if (!scheme && !base) return undefined;
  const protocol = scheme ? `${scheme.toLowerCase()}:` : base.protocol;
  const isSpecial = protocol in PORTS;
  let place;
  if (authority !== undefined) {
    const found = /^(?:([^:@]*)(?::([^@]*))?@)?(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(authority);
    if (!found || (isSpecial && !found[3]) || Number(found[4] ?? 0) > 65535 || /[\s<>^|%]/.test(found[3])) return undefined;
    const port = found[4] && String(Number(found[4])) !== PORTS[protocol] ? String(Number(found[4])) : "";
    place = { username: found[1] ?? "", password: found[2] ?? "", hostname: found[3].toLowerCase(), port };
  } else if (scheme) {
    if (isSpecial) return undefined;
    place = { username: "", password: "", hostname: "", port: "" };
  } else {
    const { username, password, hostname, port, pathname } = base;
    place = { username, password, hostname, port };
    if (path === "") {
      path = pathname;
      search ||= base.search;
    } else if (!path.startsWith("/")) {
      path = pathname.slice(0, pathname.lastIndexOf("/") + 1) + path;
    }
  }
  if (isSpecial || place.hostname) {
    const kept = [];
    const segments = path.replace(/^\//, "").split("/");
    segments.forEach((segment, index) => {
      const isLast = index === segments.length - 1;
      if (segment === "..") kept.pop();
      else if (segment !== ".") return kept.push(segment);
      if (isLast) kept.push("");
    });
    path = `/${kept.join("/")}`;
  }
  const escape = (part) => part.replace(/[^\x21-\x7e]|["<>`]/gu, (found) => encodeURIComponent(found.toWellFormed()));
  return { protocol, ...place, pathname: escape(path), search: search === "?" ? "" : escape(search), hash: hash === "#" ? "" : escape(hash) };
}

module.exports = { URL, URLSearchParams };
