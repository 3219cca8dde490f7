// Shared by the scripts in this folder: runs cases with a time-out, closes their sockets, prints a line for each case and a total, and exits
// with a non-zero code when one failed.
//
// Cases wait for events, never for time to pass; time-outs only end cases that hang.

import assert from 'node:assert/strict';
import { io } from 'socket.io-client';

const CASE_SECONDS = 20;
const SUITE_SECONDS = 150;

const opened = new Set();
// An uncaught exception of a library fails the running case.
let thrown = () => {};
process.on('uncaughtException', (error) => thrown(error));

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

/**
 * Runs `cases` (name → async function, whose result is printed) one after the other, also after a failure, then ends the script. A failing
 * case is tried up to `tries` times: for configurations whose time-outs are shorter than a busy machine may delay a process.
 */
export async function run(cases, { tries = 1, seconds = SUITE_SECONDS, caseSeconds = CASE_SECONDS } = {}) {
  const end = setTimeout(() => fail(`the whole script took more than ${seconds} s`), seconds * 1000);
  const failures = [];
  for (const [name, act] of Object.entries(cases)) {
    const failure = await attempt(name, act, tries, caseSeconds);
    if (failure) failures.push(failure);
  }
  clearTimeout(end);
  const count = Object.keys(cases).length;
  if (failures.length > 0) fail(`${failures.join('\n')}\n${failures.length} of ${count} cases failed`);
  console.log(`all ${count} cases passed`);
  process.exit(0);
}

/** Undefined when the case passed, else the last error. */
async function attempt(name, act, tries, seconds) {
  for (let n = 1; ; n++) {
    const start = performance.now();
    const uncaught = new Promise((_, reject) => (thrown = reject));
    try {
      const acted = Promise.race([Promise.resolve().then(act), uncaught]);
      const result = await within(seconds, `the case "${name}"`, acted);
      const time = `${Math.round(performance.now() - start)} ms${n > 1 ? `, at try ${n}` : ''}`;
      console.log(`ok      ${name} (${time})${result ? ` ${JSON.stringify(result)}` : ''}`);
      return undefined;
    } catch (error) {
      console.log(`${n < tries ? 'again ' : 'FAILED'}  ${name}: ${error.message ?? error}`);
      if (n === tries) return `FAILED ${name}: ${error.stack ?? error}`;
    } finally {
      for (const socket of opened) socket.disconnect();
      opened.clear();
    }
  }
}

/** An unconnected socket, closed when its case ends. */
export function open(url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, timeout: 10_000, ...options });
  return keep(socket);
}

/** Closes `socket` when its case ends. */
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

/** The arguments of the next `event` of `emitter`. Call it before causing the event. */
export function heard(emitter, event) {
  const args = within(10, `hearing "${event}"`, new Promise((resolve) => emitter.once(event, (...args) => resolve(args))));
  // Not an unhandled rejection when its case has already failed elsewhere.
  args.catch(() => {});
  return args;
}

/** Emits with an acknowledgement; returns its arguments. */
export function acknowledged(socket, event, ...args) {
  return within(10, `the ack of "${event}"`, new Promise((resolve) => socket.emit(event, ...args, (...back) => resolve(back))));
}

/** The result of `promise`, or an error that names what timed out. */
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

/** Asserts deep equality of arguments; binary is compared by content, whatever its class. */
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
