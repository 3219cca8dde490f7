// plugnode/test: tests a handler without a host, in any test runner for Node.
//
// Import this module, then the handler, which registers its listeners; then connect clients. As in plugnode, an event ends when its
// listeners are done, including their promises. `setTimeout` and `setInterval` are Node's; timers of `schedule` do not run: a test
// delivers their events with `fire`.

"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

const world = require("./host");
const { load, failures, apis } = require("./modules");

const internal = load("internal");
/** Time limit of an event. */
const LIMIT_MS = 5_000;
let lastClient = 0;
let lastAck = 0;
/** One event at a time, in the order in which they came. */
let queue = Promise.resolve();

/** A middleware or listener refused the connection. */
class Refused extends Error {
  name = "Refused";
}

/** Runs a task after the others. */
const enqueue = (task) => {
  const done = queue.then(() => {
    if (apis.length === 0) throw new Error("no handler is loaded: import your program, such as ./server.js, in this test");
    return task();
  });
  queue = done.catch(() => {});
  return done;
};

/** Handles one event of a client and returns its effects. `args` are those of `internal.dispatch`. A failed event throws, and has no effects. */
const handle = (client, ...args) => handleFrom({ client, namespace: client.namespace, facts: {} }, ...args);

async function handleFrom(from, ...args) {
  const origin = { ...from, kind: args[0] };
  world.take();
  world.enter(origin);
  const begun = Date.now();
  // The reply to a query is a separate event, so a listener that waits for one does not keep this event open.
  const before = internal.openQueries();
  const isWaiting = () => internal.pending() > 0 && internal.openQueries() <= before;
  try {
    internal.dispatch(...args);
    for (;;) {
      // Lets promise jobs and Node's own callbacks run.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
      while (isWaiting() && Date.now() - begun < LIMIT_MS) await sleep(1);
      const next = internal.advance();
      if (next === undefined) break;
      if (typeof next === "string") throw failures.last ?? new Error(next);
      if (Date.now() - begun > LIMIT_MS) throw new Error(`the event did not end within ${LIMIT_MS} ms`);
    }
  } catch (error) {
    world.take();
    throw error;
  }
  const { commands, writes } = world.take();
  world.commit(writes);
  const effects = commands.map(({ token, one, ...effect }) => effect);
  for (const [bucket, key, value] of writes) {
    effects.push({ type: value === undefined ? "delete" : "set", bucket, key, ...(value ? { value: valueOf(value) } : {}) });
  }
  for (const command of commands) await apply(origin, command, effects);
  return effects;
}

/** The JSON value of bytes, or their text if they are not JSON. */
function valueOf(bytes) {
  const text = Buffer.from(bytes).toString();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Applies a command, and adds the effects of the events that follow from it. */
async function apply(origin, command, effects) {
  // An earlier command may have led to another event.
  world.enter(origin);
  const to = command.to ? world.audience(command.to) : [];
  switch (command.type) {
    case "emit":
      for (const one of to) one.received.push([command.event, ...command.args]);
      return;
    case "join":
      for (const one of to) for (const room of command.rooms) one.rooms.add(room);
      return;
    case "leave":
      for (const one of to) for (const room of command.rooms) one.rooms.delete(room);
      return;
    case "attributes": {
      const one = world.clients.get(command.client);
      if (!one) return;
      for (const [name, value] of Object.entries(command.patch)) {
        if (value === null) delete one.attributes[name];
        else one.attributes[name] = value;
      }
      return;
    }
    case "timer": {
      const { of, key, at, every: period, kind, data } = command;
      const owner = world.timerOwner(of);
      if (owner === undefined) return;
      if (!world.timers.has(owner)) world.timers.set(owner, new Map());
      world.timers.get(owner).set(key, { due: at ?? Date.now() + period, period, kind, data });
      return;
    }
    case "cancel":
      world.timers.get(world.timerOwner(command.of))?.delete(command.key);
      return;
    case "disconnect":
      for (const one of to) effects.push(...(await disconnect(one, "server namespace disconnect")));
      return;
    case "ask": {
      const answers = [];
      const missing = [];
      for (const one of to) {
        const answer = one.answers.get(command.event);
        if (answer) answers.push({ id: one.id, args: [await answer(...command.args)] });
        else missing.push(one.id);
      }
      const reply = command.one ? (answers[0]?.args ?? null) : [{ answers, missing, silent: [] }];
      effects.push(...(await deliverReply(origin.client, command.token, reply)));
      return;
    }
    case "find": {
      const found = to.map(({ id, attributes, rooms }) => ({ id, attributes, channels: [...rooms] }));
      effects.push(...(await deliverReply(origin.client, command.token, [{ clients: found, count: found.length, silent: [] }])));
    }
  }
}

/** The first arguments of `internal.dispatch`: kind and client. */
const eventArgs = (kind, { id, namespace, attributes }) => [kind, id, "test", namespace, JSON.stringify(attributes)];

/** The same for a custom event without a client. */
const NO_CLIENT = ["custom", undefined, undefined, undefined, undefined];

const deliverReply = (client, token, reply) =>
  handle(client, ...eventArgs("reply", client), token, reply === null ? null : JSON.stringify(reply), undefined);

function disconnect(client, reason) {
  if (!world.clients.delete(client.id)) return [];
  world.timers.delete(client);
  return handle(client, ...eventArgs("disconnect", client), reason, reason === "node lost" ? undefined : JSON.stringify([...client.rooms]));
}

const timersOf = (owner) => [...(world.timers.get(owner)?.keys() ?? [])].sort();

/** Delivers the event of a timer. The owner is a client, or the namespace of the app. */
function fireOf(owner, key, { missed = 0 } = {}) {
  const timers = world.timers.get(owner);
  const timer = timers?.get(key);
  const isClient = owner instanceof TestClient;
  if (!timer) {
    throw new Error(`${isClient ? `client ${owner.id}` : "the app"} has no timer ${key}: its timers are [${timersOf(owner).join(", ")}]`);
  }
  const { due, period, kind, data } = timer;
  if (period === undefined) timers.delete(key);
  else timers.set(key, { ...timer, due: due + (missed + 1) * period });
  const facts = { key, "due-ms": String(due), missed: String(missed) };
  const [client, namespace] = isClient ? [owner, owner.namespace] : [undefined, owner];
  const from = isClient ? eventArgs("custom", client) : NO_CLIENT;
  return handleFrom({ client, namespace, facts }, ...from, kind, Buffer.from(JSON.stringify(data)), undefined);
}

/** A client of the handler under test. */
class TestClient {
  /** The events that the client received, oldest first: name and arguments. */
  received = [];
  rooms = new Set();
  attributes = {};
  answers = new Map();

  constructor(id, namespace) {
    this.id = id;
    this.namespace = namespace;
  }
  get isConnected() {
    return world.clients.has(this.id);
  }
  /** Emits an event and returns its effects when it is done. */
  emit(event, ...args) {
    return enqueue(() => this.#message(event, args, undefined));
  }
  /** Emits an event and returns the arguments of its acknowledgement; undefined if the handler did not answer. */
  async ask(event, ...args) {
    const effects = await enqueue(() => this.#message(event, args, "ack"));
    return effects.find(({ type }) => type === "ack")?.args;
  }
  /** Sets how the client answers this event, for `emit` with an acknowledgement and `emitWithAck`. */
  answer(event, answer) {
    this.answers.set(event, answer);
    return this;
  }
  /** Removes and returns the events in `received`. */
  take() {
    return this.received.splice(0);
  }
  /** The keys of the client's timers, sorted. */
  get timers() {
    return timersOf(this);
  }
  /** Delivers the event of the client's timer, like `fire` of the module. */
  fire(key, options) {
    return enqueue(() => fireOf(this, key, options));
  }
  disconnect(reason = "client namespace disconnect") {
    return enqueue(() => disconnect(this, reason));
  }
  #message(event, args, ack) {
    if (!this.isConnected) throw new Error("this client is not connected");
    const [json, attachments] = internal.encode(args);
    return handle(this, ...eventArgs("message", this), event, json, attachments, ack);
  }
}

/** Whether the program defines a namespace. An API that is not by namespace takes all. */
const isDefined = (namespace, id) => apis.some((api) => api.connection && !api.knows?.({ id, namespace }));

/**
 * Connects a client and returns it when its `connection` has been handled. Throws `Refused` if the handler refused it, or does not define
 * the namespace.
 */
async function connect(options = {}) {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`connect takes options: connect({ namespace: ${JSON.stringify(options) ?? "…"} })`);
  }
  return connectWith(options);
}

function connectWith({ id = `client-${++lastClient}`.padEnd(20, "-"), namespace = "/", auth, query = {}, headers = {}, address = "127.0.0.1" }) {
  return enqueue(async () => {
    if (!isDefined(namespace, id)) throw new Refused("Invalid namespace");
    const client = new TestClient(id, namespace);
    world.clients.set(id, client);
    const flat = Object.entries(headers).flat();
    const search = String(new URLSearchParams(query));
    const args = [auth === undefined ? undefined : JSON.stringify(auth), search, flat, address, "websocket", false];
    try {
      client.effects = await handle(client, ...eventArgs("connection", client), ...args);
    } catch (error) {
      world.clients.delete(id);
      throw error;
    }
    const refusal = client.effects.find(({ type }) => type === "refuse");
    if (refusal) {
      world.clients.delete(id);
      throw Object.assign(new Refused(refusal.message), { data: refusal.data });
    }
    return client;
  });
}

/** Delivers an event that no client sent. */
const custom = (kind, data, contentType = "application/json", { namespace = "/" } = {}) =>
  enqueue(() => {
    const bytes = typeof data === "string" || ArrayBuffer.isView(data) ? Buffer.from(data) : Buffer.from(JSON.stringify(data));
    const facts = { "ack-id": `ack-${++lastAck}` };
    return handleFrom({ client: undefined, namespace, facts }, ...NO_CLIENT, kind, bytes, contentType);
  });

/** Delivers an event that no client sent and returns the arguments of its acknowledgement; undefined if the handler did not answer. */
const ask = async (kind, data = null, options) => {
  const effects = await custom(kind, JSON.stringify(data), undefined, options);
  return effects.find(({ type }) => type === "ack")?.args;
};

/** Delivers the event of a timer of the app, also before the timer is due. A one-shot timer is then gone. Throws if there is none. */
const fire = (key, { namespace = "/", ...options } = {}) => enqueue(() => fireOf(namespace, key, options));

/** The keys of the app's timers, sorted. */
const timers = (namespace = "/") => timersOf(namespace);

/** The value of a key, parsed from JSON. */
const stored = (key, bucket = "default") => {
  const bytes = world.buckets.get(bucket)?.get(key);
  return bytes && valueOf(bytes);
};

/** Removes all clients, stored values and timers. Variables of the handler stay. */
function reset() {
  world.clients.clear();
  world.buckets.clear();
  world.timers.clear();
}

module.exports = { connect, custom, ask, fire, timers, stored, reset, config: world.config, Refused };
