// What the scripts beside this file have in common: cases that each end in time, sockets that are closed after their case, and
// the answer to whoever started the script: a line for each case, how many there were, and a non-zero exit code when one failed.
//
// It waits for events, never for time to pass; a time limit only ends what would hang.

import assert from 'node:assert/strict';
import { io } from 'socket.io-client';

const CASE_SECONDS = 20;
const SUITE_SECONDS = 150;

const opened = new Set();
// What a library throws where nobody can catch it belongs to the case that runs.
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
 * Runs `cases` (name → async function, which may give something to print) one after the other, also past a failure, then ends the
 * script. One that fails is tried again, up to `tries` times in all: for configurations whose own time limits are shorter than a busy
 * machine may hold a process up.
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

/** Nothing when the case passed, and else what was wrong the last time. */
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
