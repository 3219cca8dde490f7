// Attributes of clients as JSON: comparison and merge patches.

/** The attribute that holds the data of Socket.IO's API: `h` handshake, `r` rooms, `x` refused. */
const OWN_KEY = "plugnode";

/** A canonical text: equal for values with equal JSON. An absent field equals null. */
function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  if (typeof value.toJSON === "function") return canonical(value.toJSON());
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  const parts = [];
  for (const key of Object.keys(value).sort()) {
    const text = canonical(value[key]);
    if (text !== "null") parts.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${parts.join()}}`;
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** The merge patch that turns `old` into `now`; undefined if they are equal. */
function patchOf(old, now) {
  let patch;
  const set = (key, value) => {
    patch ??= {};
    Object.defineProperty(patch, key, { __proto__: null, value, enumerable: true, configurable: true, writable: true });
  };
  for (const key of Object.keys(old)) if (!Object.hasOwn(now, key)) set(key, null);
  for (const key of Object.keys(now)) {
    const [before, after] = [Object.hasOwn(old, key) ? old[key] : undefined, now[key]];
    if (isObject(before) && isObject(after)) {
      const inner = patchOf(before, after);
      if (inner) set(key, inner);
    } else if (canonical(before) !== canonical(after)) set(key, after);
  }
  return patch;
}

/** The JSON value of a property, or undefined if it has none; such a property stays in this instance. */
function jsonOf(value) {
  if (typeof value === "function" || typeof value === "symbol" || value === undefined) return undefined;
  try {
    const text = JSON.stringify(value);
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

module.exports = { OWN_KEY, canonical, isObject, jsonOf, patchOf };
