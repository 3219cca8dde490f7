// The way of an event through a script: from the host's call to the listeners, and until nothing is waited for any more.
// Knows no Socket.IO: what a program listens with registers itself by `addApp`.

const { host, config } = require("boot");

/** What has come from the host and is not done yet. */
let current = newCall();
/** While an instance makes up for a `connection` that it did not see: nothing of it leaves. */
let isMuted = false;
const apps = [];
const timers = new Map();
const asks = new Map();
const rejections = new Map();
/** The most timers that wait in an instance. */
const MOST_TIMERS = 50_000;
/** No timer is due before this. */
let earliest = Infinity;
// Tokens of this instance are not those of the one before it.
const salt = Math.random().toString(36).slice(2, 10);
let lastTimer = 0;
let lastAsk = 0;

function newCall() {
  return { pending: 0, failure: undefined, then: [], atEnd: new Set(), atFailure: new Set(), timers: new Set() };
}

// ---- Effects ----

/** Commands that need no answer: nothing while muted. */
const effects = {};
for (const name of [
  "publish",
  "subscribe",
  "unsubscribe",
  "ack",
  "disconnect",
  "patchAttributes",
  "refuse",
  "custom",
  "keySet",
  "keyDelete",
  "keyAdd",
  "timerAt",
  "timerEvery",
  "timerCancel",
]) {
  effects[name] = (...args) => {
    if (!isMuted) host[name](...args);
  };
}

/** Sends a question by `send(token)`; `answered` is called with the payload of the reply, or null when there was none in time. */
function ask(send, client, answered) {
  if (isMuted) return;
  const token = `${salt}.${++lastAsk}`;
  send(token);
  asks.set(token, { client, answered });
}

/** Ends the questions that a client can answer no more. */
function forget(client, error) {
  for (const [token, { client: asked, answered }] of asks) {
    if (asked !== client) continue;
    asks.delete(token);
    run(() => answered(null, error));
  }
}

// ---- Payloads ----

const hasBinary = (value, depth = 0) => {
  if (value === null || typeof value !== "object" || depth > 64) return false;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return true;
  if (typeof value.toJSON === "function") return false;
  for (const key in value) if (hasBinary(value[key], depth + 1)) return true;
  return false;
};

const bytesOf = (value) =>
  value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);

/** `[json, attachments]` of a list of arguments. */
function encode(args) {
  if (!hasBinary(args)) return [JSON.stringify(args), undefined];
  const attachments = [];
  const replace = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
      return { _placeholder: true, num: attachments.push(bytesOf(value)) - 1 };
    }
    if (typeof value.toJSON === "function") return value;
    if (Array.isArray(value)) return value.map(replace);
    const copy = {};
    for (const key of Object.keys(value)) copy[key] = replace(value[key]);
    return copy;
  };
  const json = JSON.stringify(args.map(replace));
  return [json, attachments];
}

function decode(json, attachments) {
  const args = JSON.parse(json);
  if (!attachments) return args;
  const { Buffer } = require("buffer");
  const buffers = attachments.map((bytes) => new Buffer(bytes.buffer, bytes.byteOffset, bytes.length));
  const restore = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (value._placeholder === true) return buffers[value.num];
    for (const key of Object.keys(value)) {
      const item = restore(value[key]);
      if (item !== value[key]) value[key] = item;
    }
    return value;
  };
  return restore(args);
}

// ---- Calls ----

function fail(error) {
  current.failure ??= { error };
}

/** Runs a listener. What it throws fails the event; what it promises is waited for. */
function run(listener) {
  try {
    track(listener());
  } catch (error) {
    fail(error);
  }
}

/** Has the event wait for a promise. */
function track(promise) {
  if (promise === null || typeof promise !== "object" || typeof promise.then !== "function") return;
  const call = current;
  call.pending++;
  promise.then(
    () => call.pending--,
    (error) => {
      call.pending--;
      fail(error);
    },
  );
}

/** Has the event wait until what this returns is called. */
function hold() {
  const call = current;
  let isHeld = true;
  call.pending++;
  return () => {
    if (isHeld) call.pending--;
    isHeld = false;
  };
}

/** Once all that was waited for is done: this, in its order. */
const after = (next) => current.then.push(next);
/** When the event ends well, in which case more can be asked for; or when it does not. */
const atEnd = (todo) => current.atEnd.add(todo);
const atFailure = (todo) => current.atFailure.add(todo);

function mute(muted) {
  isMuted = muted;
}

/**
 * Registers what is told of events: an object with any of `connection(client, handshake)`, `message(client, event, args, ack)`,
 * `disconnect(client, reason, rooms)`, whose rooms may be undefined, and `custom(kind, data, contentType, client)`, and `introduce(client)`, which is called, muted,
 * before another event of a client that this instance has not seen.
 */
const addApp = (app) => apps.push(app);

/** A client as the host tells of it. */
const clientOf = (id, ioNode, namespace, attributes) => ({ id, ioNode, namespace, attributes });

function dispatch(kind, id, ioNode, namespace, attributes, a, b, c, d, e, f) {
  current = newCall();
  isMuted = false;
  const client = id === undefined ? undefined : clientOf(id, ioNode, namespace, attributes);
  if (kind === "no-client") return;
  if (kind === "reply") return reply(client, a, b, c);
  const handle = (app) => {
    switch (kind) {
      case "connection":
        return app.connection?.(client, { auth: a, query: b, headers: c, address: d, transport: e, recovered: f });
      case "message":
        return app.message?.(client, a, () => decode(b, c), d);
      case "disconnect":
        return app.disconnect?.(client, a, b ? JSON.parse(b) : undefined);
      case "custom":
        return app.custom?.(a, b, c, client);
    }
  };
  for (const app of apps) {
    if (client && kind !== "connection" && app.introduce && !app.knows(client)) introduce(app, client);
    if (current.pending > 0 || current.then.length > 0) after(() => handle(app));
    else handle(app);
  }
  if (kind === "disconnect") after(() => forget(id, new Error("socket has been disconnected")));
}

function introduce(app, client) {
  isMuted = true;
  run(() => app.introduce(client));
  if (current.pending === 0) isMuted = false;
  else after(() => mute(false));
}

function reply(client, token, json, attachments) {
  const asked = asks.get(token);
  asks.delete(token);
  if (asked) return run(() => asked.answered(json === null ? null : decode(json, attachments)));
  host.log(
    2,
    "plugnode",
    "an answer came to an instance that did not ask for it; a program that waits for answers needs `instances = 1`, or " +
      '`dispatch = "sticky"`, in its [[app]]',
  );
}

/**
 * Called when no promise job is left. Returns undefined when the event is done, its error as text when it has failed, and
 * otherwise after how many milliseconds to call again.
 */
function settle() {
  if (rejections.size > 0) {
    const [reason] = rejections.values();
    rejections.clear();
    fail(reason);
  }
  if (current.failure) return failed();
  if (runDue()) return 0;
  if (requests.size > 0) return awaitRequests();
  if (current.pending > 0) {
    const wait = nextWait();
    if (wait !== undefined) return wait;
  }
  // What still waits does so for an answer, which is an event of its own.
  const next = current.then.shift();
  if (next) {
    run(next);
    return 0;
  }
  isMuted = false;
  for (const todo of current.atEnd) {
    current.atEnd.delete(todo);
    run(todo);
  }
  return current.failure ? failed() : undefined;
}

/** As `settle` has it, of what no listener could catch. */
function broken(error) {
  fail(error);
  return failed();
}

function failed() {
  const { error } = current.failure;
  for (const { cancel } of requests.values()) cancel();
  for (const todo of current.atFailure) {
    try {
      todo();
    } catch {}
  }
  current = newCall();
  isMuted = false;
  const words = explain(error);
  return error?.retry === true ? `retry:${words}` : words;
}

function trackRejection(promise, reason, isHandled) {
  if (isHandled) rejections.delete(promise);
  else rejections.set(promise, reason);
}

function explain(error) {
  return require("source-map").explain(error);
}

// ---- Timers ----

function setTimer(callback, delay, args, isRepeated) {
  if (typeof callback !== "function") throw new TypeError("a timer needs a function");
  if (timers.size >= MOST_TIMERS) throw new RangeError(`no more than ${MOST_TIMERS} timers can wait in an instance`);
  const every = Math.max(1, Math.min(Number(delay) || 0, 2 ** 31 - 1));
  const due = delay > 0 ? Date.now() + every : 0;
  const id = ++lastTimer;
  timers.set(id, { due, callback, args, every: isRepeated ? every : undefined, call: current, isMuted });
  if (!isRepeated) current.timers.add(id);
  earliest = Math.min(earliest, due);
  return new Timer(id);
}

/** As Node has it: a number to those who want one. */
class Timer {
  #id;
  constructor(id) {
    this.#id = id;
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
  hasRef() {
    return true;
  }
  refresh() {
    const timer = timers.get(this.#id);
    if (timer?.every) {
      timer.due = Date.now() + timer.every;
      earliest = Math.min(earliest, timer.due);
    }
    return this;
  }
  close() {
    clearTimer(this);
  }
  toJSON() {
    return undefined;
  }
  [Symbol.toPrimitive]() {
    return this.#id;
  }
}

function clearTimer(timer) {
  if (timer !== undefined && timer !== null) timers.delete(Number(timer));
}

/** Runs what is due, and says whether there was anything. */
function runDue() {
  const now = Date.now();
  if (now < earliest) return false;
  // What is left of another event is none of a replay's.
  const isMeant = ({ due, call }) => due <= now && (!isMuted || call === current);
  const due = [...timers].filter(([, timer]) => isMeant(timer)).sort(([, a], [, b]) => a.due - b.due);
  for (const [id, timer] of due) {
    if (!timers.has(id)) continue;
    if (timer.every === undefined) timers.delete(id);
    else timer.due = now + timer.every;
    // What a replayed listener has set is set again by each instance.
    if (timer.isMuted && timer.call !== current) continue;
    const wasMuted = isMuted;
    isMuted = timer.isMuted;
    run(() => timer.callback(...timer.args));
    isMuted = wasMuted;
  }
  earliest = Infinity;
  for (const { due } of timers.values()) earliest = Math.min(earliest, due);
  return due.length > 0;
}

/** Until the next timer that this event may be waiting for. */
function nextWait() {
  let next;
  for (const id of current.timers) {
    const due = timers.get(id)?.due;
    if (due === undefined) current.timers.delete(id);
    else if (next === undefined || due < next) next = due;
  }
  if (next === undefined) return undefined;
  const wait = Math.max(next - Date.now(), 0.1);
  return wait < host.timeLeft() ? wait : undefined;
}

// ---- HTTP ----

/** The most requests that are on their way at once. */
const MOST_REQUESTS = 32;
/** Milliseconds of an event's time that are left for saying that there is no answer. */
const LAST_WORDS = 30;
const requests = new Map();

/**
 * Sends a request: `words` are what the host wants of it, `name` is for people. The event waits for it, whether or not anything in the
 * script does. Returns what gives it up.
 */
function request(name, words, answered) {
  if (requests.size >= MOST_REQUESTS) throw new RangeError(`no more than ${MOST_REQUESTS} requests can be on their way at once`);
  const id = host.fetchStart(...words);
  const release = hold();
  const cancel = () => {
    if (!requests.delete(id)) return;
    host.fetchCancel(id);
    release();
  };
  requests.set(id, { name, answered, release, cancel });
  return cancel;
}

function awaitRequests() {
  const left = host.timeLeft() - LAST_WORDS;
  if (left <= 0) {
    const names = [...requests.values()].map(({ name }) => name).join(", ");
    fail(new Error(`the time of an event (limits.time-ms) was over before there was an answer to ${names}`));
    return failed();
  }
  host.fetchWait(Math.min(nextWait() ?? left, left));
  for (const [id, { answered, release }] of requests) {
    const answer = host.fetchTake(id);
    if (answer === undefined || answer === null) continue;
    requests.delete(id);
    release();
    run(() => answered(answer));
  }
  return 0;
}

// ---- Scripts ----

const process = {
  env: config,
  argv: ["plugnode"],
  platform: "wasi",
  version: "v20.0.0",
  versions: { node: "20.0.0" },
  cwd: () => "/",
  nextTick: (callback, ...args) => queueMicrotask(() => run(() => callback(...args))),
  uptime: () => 0,
  hrtime: Object.assign(
    () => {
      const now = Date.now();
      return [Math.floor(now / 1000), (now % 1000) * 1e6];
    },
    { bigint: () => BigInt(Date.now()) * 1000000n },
  ),
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0 }),
  on: () => process,
  once: () => process,
  exit: (code) => {
    throw new Error(`the script called process.exit(${code ?? 0})`);
  },
};

function runCommon(body, name) {
  const module = { exports: {}, id: ".", filename: `/${name}`, loaded: false, children: [], paths: [] };
  require.main = module;
  body.call(module.exports, module.exports, globalThis.require, module, `/${name}`, "/");
}

module.exports = {
  addApp,
  after,
  ask,
  atEnd,
  atFailure,
  broken,
  clearTimer,
  config,
  decode,
  dispatch,
  effects,
  encode,
  explain,
  fail,
  hold,
  host,
  asking: () => asks.size,
  isMuted: () => isMuted,
  mute,
  pending: () => current.pending,
  process,
  request,
  run,
  runCommon,
  setTimer,
  settle,
  track,
  trackRejection,
};
