// Writes MessagePack, for values that contain bytes: JSON has none. What is not bytes is written as JSON.stringify would: dates as text,
// undefined as null, functions not at all.

"use strict";

const isBytes = (value) => ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
const isObject = (value) => value !== null && typeof value === "object";

/** The bytes of a view or buffer. */
const bytesOf = (value) =>
  value instanceof ArrayBuffer ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength);

/** Whether a value contains bytes. Throws a RangeError if it is nested deeper than any server takes. */
function hasBytes(value, depth = 0) {
  if (!isObject(value)) return false;
  if (isBytes(value)) return true;
  if (depth > 1_024) throw new RangeError("the value is nested deeper than 1,024 levels, or contains itself");
  if (typeof value.toJSON === "function") return false;
  return Object.values(value).some((item) => hasBytes(item, depth + 1));
}

/** A number in this many bytes, after a type byte. */
function sized(type, size, number) {
  const head = Buffer.alloc(1 + size);
  head[0] = type;
  head.writeUIntBE(number, 1, size);
  return head;
}

/** The head of a value with a length: `fix` for short ones, else one of `types`, for a length of 1 (if there is one), 2 and 4 bytes. */
function head(length, fix, fixMost, [one, two, four]) {
  if (fix !== undefined && length <= fixMost) return Buffer.from([fix | length]);
  if (one !== undefined && length < 2 ** 8) return sized(one, 1, length);
  return length < 2 ** 16 ? sized(two, 2, length) : sized(four, 4, length);
}

const arrayHead = (length) => head(length, 0x90, 15, [undefined, 0xdc, 0xdd]);

function number(value) {
  if (!Number.isFinite(value)) return Buffer.from([0xc0]);
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value < 128 ? Buffer.from([value]) : sized(0xce, 4, value);
  if (Number.isInteger(value) && value < 0 && value >= -(2 ** 31)) return sized(0xd2, 4, value + 2 ** 32);
  const bytes = Buffer.alloc(9);
  bytes[0] = 0xcb;
  bytes.writeDoubleBE(value, 1);
  return bytes;
}

function text(value) {
  const bytes = Buffer.from(value);
  return [head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]), bytes];
}

function write(value, chunks) {
  if (isObject(value) && !isBytes(value) && typeof value.toJSON === "function") value = value.toJSON();
  if (isBytes(value)) {
    const bytes = bytesOf(value);
    chunks.push(head(bytes.length, undefined, 0, [0xc4, 0xc5, 0xc6]), bytes);
  } else if (Array.isArray(value)) {
    chunks.push(arrayHead(value.length));
    for (const item of value) write(item, chunks);
  } else if (isObject(value)) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined && typeof item !== "function");
    chunks.push(head(entries.length, 0x80, 15, [undefined, 0xde, 0xdf]));
    for (const [key, item] of entries) {
      chunks.push(...text(key));
      write(item, chunks);
    }
  } else if (typeof value === "string") chunks.push(...text(value));
  else if (typeof value === "number") chunks.push(number(value));
  else if (typeof value === "boolean") chunks.push(Buffer.from([value ? 0xc3 : 0xc2]));
  else if (typeof value === "bigint") throw new TypeError("a BigInt cannot be sent: convert it to a number or a string");
  else chunks.push(Buffer.from([0xc0]));
}

/** A value as bytes. */
function encode(value) {
  const chunks = [];
  write(value, chunks);
  return Buffer.concat(chunks);
}

module.exports = { arrayHead, encode, hasBytes };
