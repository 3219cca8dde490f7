// The commonly used part of Node's Buffer, for text, bytes and their encodings: a Uint8Array with Node's methods. Loaded on first use.

const ENCODINGS = { utf8: "utf8", "utf-8": "utf8", hex: "hex", base64: "base64", base64url: "base64url", ascii: "latin1", latin1: "latin1", binary: "latin1" };
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function encodingOf(name = "utf8") {
  const known = ENCODINGS[String(name).toLowerCase()];
  if (!known) throw new TypeError(`Unknown encoding: ${name}`);
  return known;
}

function bytesOfText(text, encoding) {
  switch (encodingOf(encoding)) {
    case "utf8":
      return encoder.encode(text);
    case "hex": {
      const digits = /^(?:[0-9a-f]{2})*/i.exec(text)[0];
      return Uint8Array.from({ length: digits.length / 2 }, (_, place) => parseInt(digits.slice(place * 2, place * 2 + 2), 16));
    }
    case "latin1":
      return Uint8Array.from({ length: text.length }, (_, place) => text.charCodeAt(place));
    default: {
      // Like Node: accepts both base64 alphabets and ignores other characters.
      const letters = text.replaceAll("-", "+").replaceAll("_", "/").replace(/=[^]*$/, "").replace(/[^A-Za-z0-9+/]/g, "");
      const whole = letters.length % 4 === 1 ? letters.slice(0, -1) : letters;
      return Uint8Array.from(atob(whole), (letter) => letter.charCodeAt(0));
    }
  }
}

/** Converts in chunks, because the number of arguments of a call is limited. */
function lettersOf(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}

class Buffer extends Uint8Array {
  static poolSize = 8192;

  static from(value, encoding, length) {
    if (typeof value === "string") return Buffer.#over(bytesOfText(value, encoding));
    if (value instanceof ArrayBuffer) return new Buffer(value, encoding, length);
    if (value?.type === "Buffer" && Array.isArray(value.data)) return Buffer.from(value.data);
    if (ArrayBuffer.isView(value) || Array.isArray(value) || typeof value?.length === "number") {
      const copy = new Buffer(value.length);
      for (let at = 0; at < copy.length; at++) copy[at] = value[at];
      return copy;
    }
    throw new TypeError("The first argument must be a string, bytes, or an array of numbers");
  }
  static #over(bytes) {
    return new Buffer(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  static alloc(size, fill, encoding) {
    const made = new Buffer(size);
    return fill === undefined ? made : made.fill(fill, 0, size, encoding);
  }
  static allocUnsafe(size) {
    return new Buffer(size);
  }
  static allocUnsafeSlow(size) {
    return new Buffer(size);
  }
  static isBuffer(value) {
    return value instanceof Buffer;
  }
  static isEncoding(name) {
    return typeof name === "string" && name.toLowerCase() in ENCODINGS;
  }
  static byteLength(value, encoding) {
    return typeof value === "string" ? bytesOfText(value, encoding).length : value.byteLength;
  }
  static concat(list, total = list.reduce((sum, bytes) => sum + bytes.length, 0)) {
    const all = new Buffer(total);
    let at = 0;
    for (const bytes of list) {
      const part = bytes.subarray(0, Math.max(0, total - at));
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
  static compare(one, other) {
    const length = Math.min(one.length, other.length);
    for (let at = 0; at < length; at++) if (one[at] !== other[at]) return one[at] < other[at] ? -1 : 1;
    return Math.sign(one.length - other.length);
  }

  toString(encoding, start = 0, end = this.length) {
    const part = this.subarray(start, end);
    switch (encodingOf(encoding)) {
      case "utf8":
        return decoder.decode(part);
      case "hex":
        return Array.from(part, (byte) => byte.toString(16).padStart(2, "0")).join("");
      case "latin1":
        return lettersOf(part);
      case "base64":
        return btoa(lettersOf(part));
      default:
        return btoa(lettersOf(part)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    }
  }
  toJSON() {
    return { type: "Buffer", data: Array.from(this) };
  }
  equals(other) {
    return Buffer.compare(this, other) === 0;
  }
  compare(other) {
    return Buffer.compare(this, other);
  }
  /** Like Node: shares the bytes. */
  slice(start, end) {
    return this.subarray(start, end);
  }
  write(text, at = 0, length = this.length - at, encoding = "utf8") {
    const bytes = bytesOfText(text, encoding).subarray(0, Math.min(length, this.length - at));
    this.set(bytes, at);
    return bytes.length;
  }
  copy(target, at = 0, start = 0, end = this.length) {
    const part = this.subarray(start, Math.min(end, start + target.length - at));
    target.set(part, at);
    return part.length;
  }
  fill(value, start = 0, end = this.length, encoding = "utf8") {
    if (typeof value === "number") return super.fill(value, start, end);
    const bytes = typeof value === "string" ? bytesOfText(value, encoding) : value;
    for (let at = start; at < end && bytes.length > 0; at++) this[at] = bytes[(at - start) % bytes.length];
    return this;
  }
  indexOf(value, from = 0, encoding = "utf8") {
    if (typeof value === "number") return super.indexOf(value, from);
    const bytes = typeof value === "string" ? bytesOfText(value, encoding) : value;
    for (let at = from; at + bytes.length <= this.length; at++) {
      if (bytes.every((byte, place) => this[at + place] === byte)) return at;
    }
    return -1;
  }
  includes(value, from, encoding) {
    return this.indexOf(value, from, encoding) !== -1;
  }
}

// Methods that read and write numbers, through a DataView on the same bytes.
const KINDS = { UInt8: "Uint8", Int8: "Int8", UInt16: "Uint16", Int16: "Int16", UInt32: "Uint32", Int32: "Int32", Float: "Float32", Double: "Float64", BigInt64: "BigInt64", BigUInt64: "BigUint64" };
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
for (const [name, kind] of Object.entries(KINDS)) {
  const size = name.endsWith("8") ? 1 : Number(/\d+$/.exec(kind)[0]) / 8;
  for (const order of size === 1 ? [""] : ["LE", "BE"]) {
    const isLittle = order === "LE";
    const methods = {
      [`read${name}${order}`]: function (at = 0) {
        return viewOf(this)[`get${kind}`](at, isLittle);
      },
      [`write${name}${order}`]: function (value, at = 0) {
        viewOf(this)[`set${kind}`](at, value, isLittle);
        return at + size;
      },
    };
    for (const [method, value] of Object.entries(methods)) {
      Object.defineProperty(Buffer.prototype, method, { __proto__: null, value, writable: true, configurable: true });
    }
  }
}

module.exports = { Buffer, SlowBuffer: Buffer, kMaxLength: 2 ** 31 - 1 };
