// Event dispatch and scheduling in the runtime: passes an event from the host to the listeners, and runs promises, timers and HTTP
// requests until the event is done. Knows nothing of Socket.IO: the APIs for scripts register themselves with `addApi`.

const { host, config } = require("boot");

/** The state of the current call from the host. */
let current = newCall();
/** True while a `connection` that another instance handled is replayed; effects are then discarded. */
let isMuted = false;
const apis = [];
const timers = new Map();
/** Open requests and cluster queries by token. */
const queries = new Map();
const rejections = new Map();
/** The limit of pending timers in an instance. */
const MAX_TIMERS = 50_000;
/** A lower bound of the due times of all timers. */
let earliestDue = Infinity;
// A random prefix distinguishes the tokens of this instance from those of its predecessor.
const tokenPrefix = Math.random().toString(36).slice(2, 10);
let lastTimer = 0;
let lastQuery = 0;

function newCall() {
  return { __proto__: null, pending: 0, failure: undefined, steps: [], beforeQuery: new Set(), onCommit: new Set(), onFailure: new Set(), timers: new Set() };
}

// ---- Effects ----

/** The commands without a reply, as functions that do nothing while muted. */
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

/** Sends a request or cluster query with `send(token)`. Calls `onReply` with the reply's arguments, or null if there was no answer in time. */
function sendQuery(send, client, onReply) {
  if (isMuted) return;
  for (const callback of current.beforeQuery) callback();
  const token = `${tokenPrefix}.${++lastQuery}`;
  send(token);
  queries.set(token, { client, onReply });
}

/** Ends the open requests to a client that has disconnected. */
function failRequests(client, error) {
  for (const [token, { client: asked, onReply }] of queries) {
    if (asked !== client) continue;
    queries.delete(token);
    run(() => onReply(null, error));
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

/** Encodes arguments as `[json, attachments]`. */
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
  const buffers = attachments.map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
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

/** Runs a listener. An exception fails the event; a returned promise is awaited by the event. */
function run(listener) {
  try {
    track(listener());
  } catch (error) {
    fail(error);
  }
}

/** Makes the event wait for a promise. */
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

/** Makes the event wait until the returned function is called. */
function hold() {
  const call = current;
  let isHeld = true;
  call.pending++;
  return () => {
    if (isHeld) call.pending--;
    isHeld = false;
  };
}

/** Runs a step when nothing is pending any more, after the steps that were added before. */
const runAfterPending = (step) => current.steps.push(step);
/** Runs before a successful event is committed; may add effects. */
const onCommit = (callback) => current.onCommit.add(callback);
/** Runs before each request and cluster query, whose answer may depend on the effects so far; may run several times. */
const beforeQuery = (callback) => current.beforeQuery.add(callback);
/** Runs after the event has failed. */
const onFailure = (callback) => current.onFailure.add(callback);

function mute(muted) {
  isMuted = muted;
}

/**
 * Registers an API, which receives all events. Optional methods: `connection(client, handshake)`, `message(client, event, args, ack)`,
 * `disconnect(client, reason, rooms)`, where `rooms` may be undefined, and `custom(kind, data, contentType, client)`. An API with
 * `replayConnection(client)` also needs `knows(client)`; `replayConnection` is called, muted, before an event of a client that the
 * API does not know.
 */
const addApi = (api) => apis.push(api);

/** A client, as the host describes it. */
const clientOf = (id, ioNode, namespace, attributes) => ({ id, ioNode, namespace, attributes });

function dispatch(kind, id, ioNode, namespace, attributes, a, b, c, d, e, f) {
  current = newCall();
  isMuted = false;
  const client = id === undefined ? undefined : clientOf(id, ioNode, namespace, attributes);
  if (kind === "no-client") return;
  if (kind === "reply") return reply(client, a, b, c);
  const handle = (api) => {
    switch (kind) {
      case "connection":
        return api.connection?.(client, { auth: a, query: b, headers: c, address: d, transport: e, recovered: f });
      case "message":
        return api.message?.(client, a, () => decode(b, c), d);
      case "disconnect":
        return api.disconnect?.(client, a, b ? JSON.parse(b) : undefined);
      case "custom":
        return api.custom?.(a, b, c, client);
    }
  };
  for (const api of apis) {
    if (client && kind !== "connection" && api.replayConnection && !api.knows(client)) replayConnection(api, client);
    if (current.pending > 0 || current.steps.length > 0) runAfterPending(() => handle(api));
    else handle(api);
  }
  if (kind === "disconnect") runAfterPending(() => failRequests(id, new Error("socket has been disconnected")));
}

function replayConnection(api, client) {
  isMuted = true;
  run(() => api.replayConnection(client));
  if (current.pending === 0) isMuted = false;
  else runAfterPending(() => mute(false));
}

function reply(client, token, json, attachments) {
  const query = queries.get(token);
  queries.delete(token);
  if (query) return run(() => query.onReply(json === null ? null : decode(json, attachments)));
  host.log(
    2,
    "plugnode",
    "dropped a reply to a request of another instance: set `instances = 1` or `dispatch = \"sticky\"` in the [[app]] of a program " +
      "that waits for replies",
  );
}

/**
 * Advances the current event; called when the promise job queue is empty. Returns undefined when the event is done, the error as
 * text when it has failed, and otherwise the number of milliseconds after which to call again.
 */
function advance() {
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
  // A promise that is still pending waits for a reply, which arrives as a separate event.
  const next = current.steps.shift();
  if (next) {
    run(next);
    return 0;
  }
  isMuted = false;
  for (const callback of current.onCommit) {
    current.onCommit.delete(callback);
    run(callback);
  }
  if (current.failure) return failed();
  settleTimers();
  removePollution();
  return undefined;
}

/** Fails the current event with an error that no listener caught. Returns its text, like `advance`. */
function abort(error) {
  fail(error);
  return failed();
}

function failed() {
  removePollution();
  const { error } = current.failure;
  for (const { cancel } of requests.values()) cancel();
  for (const callback of current.onFailure) {
    try {
      callback();
    } catch {}
  }
  current = newCall();
  isMuted = false;
  const text = explain(error);
  return error?.retry === true ? `retry:${text}` : text;
}

function trackRejection(promise, reason, isHandled) {
  if (isHandled) rejections.delete(promise);
  else rejections.set(promise, reason);
}

function explain(error) {
  return require("source-map").explain(error);
}

const { keys } = Object;
const { deleteProperty } = Reflect;
/** The enumerable properties that the program gave Object.prototype at its start. */
let ownNames;

/**
 * Removes what an event has added to Object.prototype, for example by merging `{"__proto__": …}` that a client sent: otherwise one
 * client could change what the events of all others see.
 */
function removePollution() {
  const names = keys(Object.prototype);
  if (ownNames === undefined) {
    ownNames = names;
    return;
  }
  for (const name of names) {
    if (ownNames.includes(name) || !deleteProperty(Object.prototype, name)) continue;
    host.log(
      2,
      "plugnode",
      `removed ${JSON.stringify(name.slice(0, 100))}, which an event added to Object.prototype and so to all objects of all clients: ` +
        "do not merge what clients send without checking its keys",
    );
  }
}

/** What a program calls, and plugnode ignores: each is logged once in an instance. */
const ignored = new Set();

/** Logs that a call or option of the program has no effect, and what to do instead. */
function ignore(what, remedy) {
  warnOnce(what, `${what} has no effect in plugnode: ${remedy}`);
}

function warnOnce(subject, text) {
  if (ignored.has(subject) || ignored.size >= 100) return;
  ignored.add(subject);
  host.log(2, "plugnode", text);
}

// ---- Timers ----

function setTimer(callback, delay, args, isRepeated) {
  if (typeof callback !== "function") throw new TypeError("the callback of a timer must be a function");
  if (isRepeated) {
    ignore(
      "setInterval between events",
      "an instance runs only while it handles events; schedule.app.every of the module plugnode sends an event in each period",
    );
  }
  if (timers.size >= MAX_TIMERS) throw new RangeError(`cannot set a timer: no more than ${MAX_TIMERS} can be pending in an instance`);
  const every = Math.max(1, Math.min(Number(delay) || 0, 2 ** 31 - 1));
  const due = delay > 0 ? Date.now() + every : 0;
  const id = ++lastTimer;
  timers.set(id, { __proto__: null, due, callback, args, every: isRepeated ? every : undefined, call: current, isMuted });
  if (!isRepeated) current.timers.add(id);
  earliestDue = Math.min(earliestDue, due);
  return new Timer(id);
}

/** Like Node's Timeout; converts to a number. */
class Timer {
  #id;
  constructor(id) {
    this.#id = id;
  }
  ref() {
    return this;
  }
  /** Node would end without waiting for it, so nobody needs to know that it waits. */
  unref() {
    const timer = timers.get(this.#id);
    if (timer) timer.isUnref = true;
    return this;
  }
  hasRef() {
    return !timers.get(this.#id)?.isUnref;
  }
  refresh() {
    const timer = timers.get(this.#id);
    if (timer?.every) {
      timer.due = Date.now() + timer.every;
      earliestDue = Math.min(earliestDue, timer.due);
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

/** Says that a timer which outlives its event waits for the next event. */
function settleTimers() {
  if (isMuted) return;
  for (const id of current.timers) {
    const timer = timers.get(id);
    if (timer === undefined || timer.isMuted || timer.isUnref) continue;
    warnOnce(
      "setTimeout",
      "a callback of setTimeout waits for the first event after its time, because an instance runs only while it handles events: await " +
        "the timer in the listener, or use schedule of the module plugnode, whose timers are events",
    );
    return;
  }
}

/** Runs the timers that are due. Returns whether there were any. */
function runDue() {
  const now = Date.now();
  if (now < earliestDue) return false;
  // A replay does not run timers of other events.
  const isRunnable = ({ due, call }) => due <= now && (!isMuted || call === current);
  const due = [...timers].filter(([, timer]) => isRunnable(timer)).sort(([, a], [, b]) => a.due - b.due);
  for (const [id, timer] of due) {
    if (!timers.has(id)) continue;
    if (timer.every === undefined) timers.delete(id);
    else timer.due = now + timer.every;
    // Timers of a replayed listener belong to the replay: every instance sets them again.
    if (timer.isMuted && timer.call !== current) continue;
    const wasMuted = isMuted;
    isMuted = timer.isMuted;
    run(() => timer.callback(...timer.args));
    isMuted = wasMuted;
  }
  earliestDue = Infinity;
  for (const { due } of timers.values()) earliestDue = Math.min(earliestDue, due);
  return due.length > 0;
}

/** Milliseconds until the next timer that this event may be waiting for, if it is due within the event's time. */
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

/** The limit of HTTP requests in flight. */
const MAX_REQUESTS = 32;
/** Milliseconds of an event's time that are reserved for reporting that a request timed out. */
const REPORT_RESERVE_MS = 30;
const requests = new Map();

/**
 * Sends an HTTP request. `args` are the arguments of `host.fetchStart`, `name` is for error messages. The event waits for the
 * response, even if the script does not. Returns a function that cancels the request.
 */
function request(name, args, onResponse) {
  if (requests.size >= MAX_REQUESTS) throw new RangeError(`cannot send ${name}: no more than ${MAX_REQUESTS} requests can be in flight`);
  const id = host.fetchStart(...args);
  const release = hold();
  const cancel = () => {
    if (!requests.delete(id)) return;
    host.fetchCancel(id);
    release();
  };
  requests.set(id, { name, onResponse, release, cancel });
  return cancel;
}

function awaitRequests() {
  const left = host.timeLeft() - REPORT_RESERVE_MS;
  if (left <= 0) {
    const names = [...requests.values()].map(({ name }) => name).join(", ");
    fail(new Error(`the time limit of the event (limits.time-ms) was over before there was an answer to ${names}`));
    return failed();
  }
  host.fetchWait(Math.min(nextWait() ?? left, left));
  for (const [id, { onResponse, release }] of requests) {
    const response = host.fetchTake(id);
    if (response === undefined || response === null) continue;
    requests.delete(id);
    release();
    run(() => onResponse(response));
  }
  return 0;
}

// ---- Scripts ----

function runCommon(body, name) {
  const module = { exports: {}, id: ".", filename: `/${name}`, loaded: false, children: [], paths: [] };
  require.main = module;
  body.call(module.exports, module.exports, globalThis.require, module, `/${name}`, "/");
}

module.exports = {
  abort,
  addApi,
  advance,
  beforeQuery,
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
  ignore,
  openQueries: () => queries.size,
  isMuted: () => isMuted,
  mute,
  onCommit,
  onFailure,
  pending: () => current.pending,
  request,
  run,
  runAfterPending,
  runCommon,
  sendQuery,
  setTimer,
  setWrapper: (name, length) => require("source-map").setWrapper(name, length),
  track,
  trackRejection,
};
