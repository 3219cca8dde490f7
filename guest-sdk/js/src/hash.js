// Digests and HMAC, with the APIs of Node and of Web Crypto. Loaded on first use.

const { host } = require("boot");
const { Buffer } = require("buffer");

const NAMES = { md5: "md5", sha1: "sha1", "sha-1": "sha1", sha256: "sha256", "sha-256": "sha256", sha384: "sha384", "sha-384": "sha384", sha512: "sha512", "sha-512": "sha512" };
/** Block size in bytes, to which HMAC pads its key (RFC 2104). */
const BLOCKS = { md5: 64, sha1: 64, sha256: 64, sha384: 128, sha512: 128 };

function algorithmOf(name) {
  const known = NAMES[String(name).toLowerCase()];
  if (!known) throw new Error(`Digest method not supported: ${name}; use md5, sha1, sha256, sha384 or sha512`);
  return known;
}

const bytesOf = (data, encoding) => (typeof data === "string" ? Buffer.from(data, encoding) : Buffer.from(data));
const digest = (algorithm, bytes) => {
  const made = host.digest(algorithm, bytes);
  return new Buffer(made.buffer, made.byteOffset, made.length);
};

/** A secret key. There are no others. */
class KeyObject {
  type = "secret";
  #bytes;
  constructor(bytes) {
    this.#bytes = bytes;
  }
  get symmetricKeySize() {
    return this.#bytes.length;
  }
  export() {
    return Buffer.from(this.#bytes);
  }
}

class Hash {
  #algorithm;
  #parts = [];
  constructor(name) {
    this.#algorithm = algorithmOf(name);
  }
  update(data, encoding) {
    this.#parts?.push(bytesOf(data, encoding));
    if (!this.#parts) throw new Error("Digest already called");
    return this;
  }
  digest(encoding) {
    if (!this.#parts) throw new Error("Digest already called");
    const made = digest(this.#algorithm, Buffer.concat(this.#parts));
    this.#parts = undefined;
    return encoding === undefined || encoding === "buffer" ? made : made.toString(encoding);
  }
}

class Hmac {
  #inner;
  #outer;
  #name;
  constructor(name, key) {
    const algorithm = algorithmOf(name);
    const block = BLOCKS[algorithm];
    let bytes = key instanceof KeyObject ? key.export() : bytesOf(key);
    if (bytes.length > block) bytes = digest(algorithm, bytes);
    const padded = Buffer.alloc(block);
    padded.set(bytes);
    this.#name = name;
    this.#inner = new Hash(name).update(padded.map((byte) => byte ^ 0x36));
    this.#outer = padded.map((byte) => byte ^ 0x5c);
  }
  update(data, encoding) {
    this.#inner.update(data, encoding);
    return this;
  }
  digest(encoding) {
    return new Hash(this.#name).update(this.#outer).update(this.#inner.digest()).digest(encoding);
  }
}

function timingSafeEqual(one, other) {
  if (one.byteLength !== other.byteLength) throw new RangeError("Input buffers must have the same byte length");
  let difference = 0;
  for (let at = 0; at < one.length; at++) difference |= one[at] ^ other[at];
  return difference === 0;
}

const subtle = {
  async digest(algorithm, data) {
    const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    const made = digest(algorithmOf(algorithm?.name ?? algorithm), bytes);
    return made.buffer.slice(made.byteOffset, made.byteOffset + made.length);
  },
};

module.exports = {
  createHash: (name) => new Hash(name),
  createHmac: (name, key) => new Hmac(name, key),
  createSecretKey: (key, encoding) => new KeyObject(bytesOf(key, encoding)),
  KeyObject,
  getHashes: () => Object.keys(BLOCKS),
  timingSafeEqual,
  subtle,
};
