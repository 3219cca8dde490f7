// plugnode/test: a handler's events in, its effects out, in any test runner of Node and without a host.
//
// Import it, then the handler, which registers its listeners; then connect clients. An event is over when its listeners are, as in
// plugnode: what they promised is waited for. Timers are Node's.

"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

const world = require("./host");
const { load, failures } = require("./modules");

const internal = load("internal");
/** How long an event may take. */
const LIMIT = 5_000;
let lastClient = 0;
/** One event at a time, in the order in which they came. */
let queue = Promise.resolve();

/** The connection was refused, by a middleware or a listener. */
class Refused extends Error {
  name = "Refused";
}

const inTurn = (todo) => {
  const done = queue.then(todo);
  queue = done.catch(() => {});
  return done;
};

/** Brings one event to its end and returns its effects; when it fails, it has none. */
async function handle(client, ...words) {
  world.take();
  world.of(client);
  const begun = Date.now();
  // An answer of a client is an event of its own: what waits for one is not waited for.
  const asked = internal.asking();
  const isWaited = () => internal.pending() > 0 && internal.asking() <= asked;
  try {
    internal.dispatch(...words);
    for (;;) {
      // Promise jobs first, then what Node itself does.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
      while (isWaited() && Date.now() - begun < LIMIT) await sleep(1);
      const next = internal.settle();
      if (next === undefined) break;
      if (typeof next === "string") throw failures.last ?? new Error(next);
      if (Date.now() - begun > LIMIT) throw new Error(`the event did not end within ${LIMIT} ms`);
    }
  } catch (error) {
    world.take();
    throw error;
  }
  const { commands, writes } = world.take();
  world.carryOut(writes);
  const effects = commands.map(({ token, one, ...effect }) => effect);
  for (const [bucket, key, value] of writes) {
    effects.push({ type: value === undefined ? "delete" : "set", bucket, key, ...(value ? { value: textOf(value) } : {}) });
  }
  for (const command of commands) await carryOut(client, command, effects);
  return effects;
}

/** Of bytes that are JSON what they say. */
function textOf(bytes) {
  const text = Buffer.from(bytes).toString();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function carryOut(client, command, effects) {
  world.of(client);
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
    case "disconnect":
      for (const one of to) effects.push(...(await end(one, "server namespace disconnect")));
      return;
    case "ask": {
      const answers = [];
      const missing = [];
      for (const one of to) {
        const answer = one.questions.get(command.event);
        if (answer) answers.push({ client: one.id, args: [await answer(...command.args)] });
        else missing.push(one.id);
      }
      const reply = command.one ? (answers[0]?.args ?? null) : [{ answers, missing, silent: [] }];
      effects.push(...(await answered(client, command.token, reply)));
      return;
    }
    case "find": {
      const found = to.map(({ id, attributes, rooms }) => ({ id, attributes, channels: [...rooms] }));
      effects.push(...(await answered(client, command.token, [{ clients: found, count: found.length, silent: [] }])));
      return;
    }
    case "rooms": {
      const all = [...world.clients.values()].filter(({ namespace }) => namespace === (command.namespace ?? client.namespace));
      const channels = [...new Set(all.flatMap(({ rooms }) => [...rooms]))].map((name) => ({ name }));
      effects.push(...(await answered(client, command.token, [{ channels, count: channels.length, silent: [] }])));
    }
  }
}

const wordsOf = (kind, { id, namespace, attributes }) => [kind, id, "test", namespace, JSON.stringify(attributes)];

const answered = (client, token, reply) =>
  handle(client, ...wordsOf("reply", client), token, reply === null ? null : JSON.stringify(reply), undefined);

function end(client, reason) {
  if (!world.clients.delete(client.id)) return [];
  return handle(client, ...wordsOf("disconnect", client), reason, reason === "node lost" ? undefined : JSON.stringify([...client.rooms]));
}

/** A client of the handler under test. */
class TestClient {
  /** What was emitted to it, oldest first: the event's name and its arguments. */
  received = [];
  rooms = new Set();
  attributes = {};
  questions = new Map();

  constructor(id, namespace) {
    this.id = id;
    this.namespace = namespace;
  }
  get isConnected() {
    return world.clients.has(this.id);
  }
  /** Emits an event, and returns its effects once it is over. */
  emit(event, ...args) {
    return inTurn(() => this.#message(event, args, undefined));
  }
  /** Emits an event and returns what its acknowledgement was called with; undefined if it was not. */
  async ask(event, ...args) {
    const effects = await inTurn(() => this.#message(event, args, "ack"));
    return effects.find(({ type }) => type === "ack")?.args;
  }
  /** Answers what the handler asks by `emit` with an acknowledgement, or by `emitWithAck`. */
  answer(event, answer) {
    this.questions.set(event, answer);
    return this;
  }
  /** What was emitted to it since the last time. */
  take() {
    return this.received.splice(0);
  }
  disconnect(reason = "client namespace disconnect") {
    return inTurn(() => end(this, reason));
  }
  #message(event, args, ack) {
    if (!this.isConnected) throw new Error("this client is not connected");
    const [json, attachments] = internal.encode(args);
    return handle(this, ...wordsOf("message", this), event, json, attachments, ack);
  }
}

/** Connects a client, and returns it once its `connection` is over. Throws `Refused` when it was not let in. */
function connect({ id = `client-${++lastClient}`.padEnd(20, "-"), namespace = "/", auth, query = {}, headers = {}, address = "127.0.0.1" } = {}) {
  return inTurn(async () => {
    const client = new TestClient(id, namespace);
    world.clients.set(id, client);
    const flat = Object.entries(headers).flat();
    const asked = String(new URLSearchParams(query));
    const words = [auth === undefined ? undefined : JSON.stringify(auth), asked, flat, address, "websocket", false];
    try {
      client.effects = await handle(client, ...wordsOf("connection", client), ...words);
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

/** Hands in a `custom` event. */
const custom = (kind, data, contentType = "application/json") =>
  inTurn(() => {
    const bytes = typeof data === "string" || ArrayBuffer.isView(data) ? Buffer.from(data) : Buffer.from(JSON.stringify(data));
    return handle(undefined, "custom", undefined, undefined, undefined, undefined, kind, bytes, contentType);
  });

/** The value of a key, as JSON has it. */
const stored = (key, bucket = "default") => {
  const bytes = world.buckets.get(bucket)?.get(key);
  return bytes && textOf(bytes);
};

/** Forgets clients, and what was stored. Variables of the handler stay: they are its own. */
function reset() {
  world.clients.clear();
  world.buckets.clear();
}

module.exports = { connect, custom, stored, reset, config: world.config, Refused };
