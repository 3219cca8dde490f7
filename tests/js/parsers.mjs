// node parsers.mjs URL [msgpack]: values of all kinds by the official client, against the event `echo` of the configuration `client` of the
// handler `conformance`: each value comes back as after a round trip through the official parsers alone.

import assert from 'node:assert/strict';
import * as json from 'socket.io-parser';
import msgpack from 'socket.io-msgpack-parser';
import { acknowledged, argumentsOf, connect, run } from './suite.mjs';

const [url, parserName] = argumentsOf('parsers.mjs', 'URL', '[msgpack]');
const isPacked = parserName === 'msgpack';
const { Encoder, Decoder } = isPacked ? msgpack : json;
const options = { transports: ['websocket'], ...(isPacked && { parser: msgpack }) };

const VALUES = 400;
const EVENT = 2;
// Most attachments that Socket.IO's parser accepts.
const ATTACHMENTS = 10;

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
let state = seed;
/** A random number below `most` (mulberry32). */
function below(most) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % most;
}

const TEXTS = ['', 'a', 'grüße', 'てすと', '😀', '\u2028', '\u0000\n"\\', '1970-01-01T00:00:00.000Z'];
const NUMBERS = [0, -0, 1, -1, 0.1, -1.5e-7, 2 ** 31, 2 ** 53, -(2 ** 53), 1e21, 1e308, 5e-324, NaN, Infinity, -Infinity];
// notepack cannot read back integers of more than 64 bits and infinite numbers as it writes them.
const PACKED_NUMBERS = NUMBERS.filter((number) => Number.isFinite(number) && Math.abs(number) < 2 ** 63);

let attachments = 0;

function value(depth) {
  const kinds = [
    () => null,
    () => undefined,
    () => below(2) === 1,
    () => pick(isPacked ? PACKED_NUMBERS : NUMBERS),
    () => below(2 ** 31) - 2 ** 30,
    () => (below(2 ** 31) - 2 ** 30) / 1024,
    () => text(),
    () => new Date(below(2 ** 31) * 1000 - 2 ** 40 + below(1000)),
    () => (attachments++ < ATTACHMENTS ? bytes() : 'one too many'),
    // JSON cannot distinguish it from a placeholder.
    () => (isPacked ? { _placeholder: true, num: below(3) } : { _placeholder: false, num: 0 }),
  ];
  if (depth < 5) {
    const items = () => Array.from({ length: below(5) }, () => value(depth + 1));
    kinds.push(items, items, () => Object.fromEntries(items().map((item) => field(text(), item))));
  }
  return pick(kinds)();
}

// The official client makes the value of `__proto__` the prototype of what it sends, and cannot write what inherits from a date.
const field = (key, value) => [key, key === '__proto__' && value instanceof Date ? null : value];

function text() {
  // The msgpack parser cannot write half a surrogate pair, nor write again what it reads for the key `__proto__`.
  const texts = isPacked ? [...TEXTS, '_placeholder', 'num'] : [...TEXTS, '\ud83d', 'x\ude00', '__proto__'];
  return pick(texts) + (below(4) === 0 ? 'x'.repeat(below(300)) : '');
}

function bytes() {
  return Buffer.from(Array.from({ length: below(300) }, () => below(256)));
}

function pick(list) {
  return list[below(list.length)];
}

/** The value after a round trip through the official parsers. */
function expected(sent) {
  return travelled(travelled(sent));
}

function travelled(sent) {
  let received;
  const decoder = new Decoder();
  decoder.on('decoded', (packet) => (received = packet.data[1]));
  for (const part of new Encoder().encode({ type: EVENT, nsp: '/', data: ['echo', sent] })) decoder.add(part);
  return received;
}

/** The value as another client can distinguish it: `undefined` becomes absent or null, and -0 becomes 0. */
function plain(value) {
  if (value === undefined) return null;
  if (value instanceof Date) return { date: +value };
  if (Buffer.isBuffer(value) || ArrayBuffer.isView(value)) return { bytes: Buffer.from(value).toString('hex') };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value === 0 ? 0 : value;
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([key, field]) => [key, plain(field)]));
}

const cases = {};

cases[`${VALUES} values (SEED=${seed}) come back as by the official parser`] = async () => {
  const socket = await connect(url, options);
  for (let n = 0; n < VALUES; n++) {
    attachments = 0;
    const sent = value(0);
    const [back] = await acknowledged(socket, 'echo', sent);
    assert.deepEqual(plain(back), plain(expected(sent)), `value ${n}`);
  }
};

cases['deeply nested lists come back'] = async () => {
  const socket = await connect(url, options);
  let sent = [];
  for (let depth = 1; depth < 1000; depth++) sent = [sent];
  const [back] = await acknowledged(socket, 'echo', sent);
  let depth = 0;
  for (let inner = back; inner !== undefined; inner = inner[0]) depth++;
  assert.equal(depth, 1000);
};

cases['half a surrogate pair does no harm'] = async () => {
  const socket = await connect(url, options);
  const [back] = await acknowledged(socket, 'echo', { t: '\ud83d', long: 'x'.repeat(40) + '\ud83d' });
  assert.equal(back.long.length, 41);
  assert.deepEqual(await acknowledged(socket, 'echo', 1), [1]);
};

await run(cases);
