// The host of the test kit: records the commands and writes of an event. Clients and keys exist only in this process.

"use strict";

const crypto = require("node:crypto");

const rules = require("./rules");

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Clients by id. Each has `namespace`, `attributes`, `rooms`, `received` and `answers`. */
const clients = new Map();
/** Bytes by bucket and key. */
const buckets = new Map();
const config = Object.create(null);
/** Timers by owner and key. The owner is a client, or the namespace of the app. Each has `due`, `period`, `kind` and `data`. */
const timers = new Map();

let event = newEvent();
/** The client, namespace and kind of the event, and the facts of its timer. */
let origin = { client: undefined, namespace: "/", kind: undefined, facts: {} };

function newEvent() {
  return { commands: [], writes: [], values: new Map(), quota: new rules.Quota() };
}

const idOf = (bucket, key) => `${bucket}\n${key}`;
const stored = (bucket, key) => {
  const id = idOf(bucket, key);
  return event.values.has(id) ? event.values.get(id) : buckets.get(bucket)?.get(key);
};
/** Records a write; `undefined` deletes the key. */
const write = (bucket, key, value, quota) => {
  const size = value === undefined ? 0 : rules.value(value);
  event.quota.charge(rules.sizeOf(bucket) + rules.sizeOf(key) + size, quota);
  event.values.set(idOf(bucket, key), value);
  event.writes.push([bucket, key, value]);
};

/** Decodes recorded arguments. Copies the attachments, which the handler may change afterwards. */
function argsOf(json, attachments) {
  // Loaded on the first call, because the modules require this one.
  const { decode } = require("./modules").load("internal");
  return decode(json, attachments?.map((bytes) => Uint8Array.from(bytes)));
}

/** The description of an audience in effects. */
const describe = ({ ns, all, clients: ids = [], channels = [], exceptClients = [], exceptChannels = [] }) => {
  const to = all ? { all: true } : { rooms: [...new Set([...channels, ...ids])] };
  const except = [...new Set([...exceptClients, ...exceptChannels])];
  return { ...(ns && ns !== "/" ? { namespace: ns } : {}), ...to, ...(except.length > 0 ? { except } : {}) };
};
/** Records a command that counts for this many bytes. */
const record = (size, command, quota) => {
  event.quota.charge(size, quota);
  event.commands.push(command);
};

/** The owner of a timer that the event sets; undefined if a client must own it and cannot: there is none, or it has disconnected. */
const timerOwner = (of) => {
  if (of === "app") return origin.namespace;
  return clients.has(origin.client?.id) ? origin.client : undefined;
};
/** `of` in the effects of timers. */
const ownerName = (isClient) => (isClient ? "client" : "app");
/** Checks the owner and key of a timer. */
const checkTimer = (isClient, key) => rules.timer(origin.kind, hasClient(), isClient, key);
const hasClient = () => origin.client !== undefined;

function recordTimer(isClient, key, time, kind, data) {
  const size = checkTimer(isClient, key) + rules.timerEvent(kind, data);
  const of = ownerName(isClient);
  record(size, { type: "timer", of, key, ...time, kind, data: JSON.parse(decoder.decode(data)) }, rules.WRITE_QUOTA);
}

/** Checks an event to clients, and the token of a request. */
const checkEvent = (to, name, json, attachments, token = "") =>
  rules.event(name) + rules.checkSize(rules.sizeOf(token)) + rules.payload(json, attachments) + rules.audience(to);

/** The clients in a room of the event's namespace. */
const present = (room) =>
  [...clients.values()].filter((client) => client.namespace === origin.namespace && client.rooms.has(room));

const host = {
  publish(to, name, json, how, attachments) {
    if (how & 2) rules.local(hasClient());
    const size = checkEvent(to, name, json, attachments);
    const args = argsOf(json, attachments);
    record(size, { type: "emit", to: describe(to), event: name, args, ...(how & 1 ? { volatile: true } : {}) });
  },
  subscribe: (to, rooms) => record(rules.audience(to) + rules.newChannels(rooms), { type: "join", to: describe(to), rooms }),
  unsubscribe: (to, rooms) =>
    record(rules.audience(to) + rooms.reduce((sum, room) => sum + rules.sizeOf(room), 0), { type: "leave", to: describe(to), rooms }),
  ack: (_, json, attachments) => record(rules.payload(json, attachments), { type: "ack", args: argsOf(json, attachments) }),
  request(to, name, json, _, token, attachments) {
    const size = checkEvent(to, name, json, attachments, token);
    record(size, { type: "ask", to: describe(to), event: name, args: argsOf(json, attachments), token, one: true });
  },
  collect(to, name, json, _, token, attachments) {
    rules.query(hasClient());
    const size = checkEvent(to, name, json, attachments, token);
    record(size, { type: "ask", to: describe(to), event: name, args: argsOf(json, attachments), token });
  },
  findClients(to, _most, _wait, token) {
    rules.query(hasClient());
    record(rules.audience(to) + rules.sizeOf(token), { type: "find", to: describe(to), token });
  },
  disconnect: (to, close) => record(rules.audience(to), { type: "disconnect", to: describe(to), close }),
  patchAttributes: (client, patch) =>
    record(rules.sizeOf(client) + rules.patch(patch), { type: "attributes", client, patch: JSON.parse(patch) }),
  refuse(message, data) {
    const size = rules.refusal(origin.kind, message, data);
    record(size, { type: "refuse", message, ...(data === undefined ? {} : { data: JSON.parse(data) }) });
  },
  custom(node, kind, data) {
    const size = rules.customKind(kind) + rules.checkSize(data.length);
    record(size, { type: "custom", ...(node ? { node } : {}), kind, data: Buffer.from(data) });
  },
  keyGet: (bucket, key) => stored(bucket, key),
  keySet: (bucket, key, value, ttl) => write(bucket, key, Uint8Array.from(value), ttl === undefined ? rules.STORE_QUOTA : rules.WRITE_QUOTA),
  keyDelete: (bucket, key) => write(bucket, key, undefined, rules.STORE_QUOTA),
  keyAdd(bucket, key, by) {
    const sum = rules.sum(key, decoder.decode(stored(bucket, key) ?? encoder.encode("0")), by);
    write(bucket, key, encoder.encode(sum), rules.WRITE_QUOTA);
  },
  timerAt: (client, key, time, kind, data) => recordTimer(client, key, { at: time }, kind, data),
  timerEvery(client, key, period, kind, data) {
    // The host takes whole milliseconds.
    rules.period(Math.trunc(period));
    recordTimer(client, key, { every: period }, kind, data);
  },
  timerCancel(client, key) {
    const size = checkTimer(client, key);
    record(size, { type: "cancel", of: ownerName(client), key }, rules.WRITE_QUOTA);
  },
  keyList(bucket, prefix) {
    const keys = new Set(buckets.get(bucket)?.keys());
    for (const [written, key, value] of event.writes) if (written === bucket) value === undefined ? keys.delete(key) : keys.add(key);
    return [...keys].filter((key) => key.startsWith(prefix)).sort();
  },
  presenceCount: (channel) => present(channel).length,
  presenceMembers: (channel) =>
    present(channel).map(({ id, attributes }) => ({ id, since: 0, attributes: JSON.stringify(attributes) })),
  log: (level, _, text) => [console.debug, console.info, console.warn, console.error][level]?.(text),
  read: () => undefined,
  context: () => ({ app: origin.namespace, attempt: 1, ...origin.facts }),
  timeLeft: () => 5_000,
  random: (length) => crypto.randomBytes(length),
};

/** Returns and removes the recorded commands and writes. */
function take() {
  const { commands, writes } = event;
  event = newEvent();
  return { commands, writes };
}

/** Commits writes. */
function commit(writes) {
  for (const [bucket, key, value] of writes) {
    if (!buckets.has(bucket)) buckets.set(bucket, new Map());
    if (value === undefined) buckets.get(bucket).delete(key);
    else buckets.get(bucket).set(key, value);
  }
}

/** The clients that an audience selects. */
function audience({ namespace = origin.namespace, all, rooms = [], except = [] }) {
  const matches = (client, names) => names.some((name) => name === client.id || client.rooms.has(name));
  return [...clients.values()].filter(
    (client) => client.namespace === namespace && (all || matches(client, rooms)) && !matches(client, except),
  );
}

module.exports = {
  host,
  config,
  clients,
  buckets,
  take,
  commit,
  audience,
  timers,
  timerOwner,
  /** Sets the origin of the current event. */
  enter: (entered) => (origin = entered),
};
