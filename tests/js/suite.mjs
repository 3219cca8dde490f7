// What the scripts beside this file have in common: cases that each end in time, sockets that are closed after their case, and
// the answer to the test that started the script: one line of JSON on success, readable words and a non-zero exit code otherwise.
//
// It waits for events, never for time to pass; a time limit only ends what would hang.

import assert from 'node:assert/strict';
import { io } from 'socket.io-client';

const CASE_SECONDS = 20;
const SUITE_SECONDS = 150;

const opened = new Set();

/** The script's arguments by position; ends the script with a usage line when a required one is missing. */
export function argumentsOf(script, ...names) {
  const given = process.argv.slice(2);
  const required = names.filter((name) => !name.startsWith('['));
  if (given.length < required.length || given.length > names.length) {
    console.error(`usage: node ${script} ${names.join(' ')}`);
    process.exit(2);
  }
  return given;
}

/** Runs `cases` (name → async function) one after the other, also past a failure, then ends the script. */
export async function run(cases) {
  const end = setTimeout(() => fail(`the whole script took more than ${SUITE_SECONDS} s`), SUITE_SECONDS * 1000);
  const passed = {};
  const failures = [];
  for (const [name, act] of Object.entries(cases)) {
    const start = performance.now();
    try {
      const result = await within(CASE_SECONDS, `the case "${name}"`, Promise.resolve().then(act));
      passed[name] = { ms: Math.round(performance.now() - start), ...result };
    } catch (error) {
      failures.push(`FAILED ${name}: ${error.stack ?? error}`);
    }
    for (const socket of opened) socket.disconnect();
    opened.clear();
  }
  clearTimeout(end);
  if (failures.length > 0) fail(`${failures.join('\n')}\n${failures.length} of ${Object.keys(cases).length} cases failed`);
  console.log(JSON.stringify({ passed: Object.keys(passed).length, cases: passed }));
  process.exit(0);
}

/** A socket that is not yet connected; it is closed when its case ends. */
export function open(url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, timeout: 10_000, ...options });
  return keep(socket);
}

/** Has `socket` closed when its case ends. */
export function keep(socket) {
  opened.add(socket);
  return socket;
}

/** A connected socket. */
export async function connect(url, options = {}) {
  return connected(open(url, options));
}

/** Waits until `socket` is connected. */
export async function connected(socket) {
  if (socket.connected) return socket;
  await within(
    15,
    'connecting',
    new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('connect_error', (error) => reject(new Error(`connect_error: ${error.message}`)));
    }),
  );
  return socket;
}

/** The arguments of the next `event` that `emitter` hears. Ask before doing what causes it. */
export function heard(emitter, event) {
  const args = within(10, `hearing "${event}"`, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))));
  // Its case may have failed elsewhere before anybody waits for it; it then must not end the script.
  args.catch(() => {});
  return args;
}

/** Emits with an acknowledgement and gives all of its arguments. */
export function acknowledged(socket, event, ...args) {
  return within(10, `the ack of "${event}"`, new Promise((resolve) => socket.emit(event, ...args, (...back) => resolve(back))));
}

/** What `promise` resolves with, or an error that says what took too long. */
export async function within(seconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Deep equality of arguments, bytes by their content whichever class holds them. */
export function same(actual, expected, what) {
  assert.deepEqual(plain(actual), plain(expected), what && `${what}: got ${show(actual)}, not ${show(expected)}`);
}

function plain(value) {
  if (value instanceof ArrayBuffer) return plain(Buffer.from(value));
  if (ArrayBuffer.isView(value)) {
    return { bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex') };
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

function show(value) {
  const text = JSON.stringify(plain(value)) ?? String(value);
  return text.length > 300 ? `${text.slice(0, 300)}… (${text.length} characters)` : text;
}

function fail(words) {
  console.error(words);
  process.exit(1);
}
