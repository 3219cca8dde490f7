// Stands in for plugnode in tests: notes what an event's handling asks for, and carries it out when the event has ended well, for
// clients and keys that are in this process alone.

"use strict";

const crypto = require("node:crypto");

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Clients by id. Each has `namespace`, `attributes`, `rooms`, `received` and `questions`. */
const clients = new Map();
/** Bytes by bucket and key. */
const buckets = new Map();
const config = Object.create(null);

let event = begin();

function begin() {
  return { commands: [], writes: [], values: new Map(), client: undefined };
}

const place = (bucket, key) => `${bucket}\n${key}`;
const stored = (bucket, key) => {
  const at = place(bucket, key);
  return event.values.has(at) ? event.values.get(at) : buckets.get(bucket)?.get(key);
};
const write = (bucket, key, value) => {
  event.values.set(place(bucket, key), value);
  event.writes.push([bucket, key, value]);
};

/** Arguments as a client gets them: placeholders are bytes again. */
function argsOf(json, attachments = []) {
  return JSON.parse(json, (_, value) =>
    value !== null && typeof value === "object" && value._placeholder === true ? Buffer.from(attachments[value.num]) : value,
  );
}

const described = ({ ns, all, clients: ids = [], channels = [], exceptClients = [], exceptChannels = [] }) => {
  const to = all ? { all: true } : { rooms: [...new Set([...channels, ...ids])] };
  const except = [...new Set([...exceptClients, ...exceptChannels])];
  return { ...(ns && ns !== "/" ? { namespace: ns } : {}), ...to, ...(except.length > 0 ? { except } : {}) };
};
const note = (command) => event.commands.push(command);

const host = {
  publish: (to, name, json, how, attachments) =>
    note({ type: "emit", to: described(to), event: name, args: argsOf(json, attachments), ...(how & 1 ? { volatile: true } : {}) }),
  subscribe: (to, rooms) => note({ type: "join", to: described(to), rooms }),
  unsubscribe: (to, rooms) => note({ type: "leave", to: described(to), rooms }),
  ack: (_, json, attachments) => note({ type: "ack", args: argsOf(json, attachments) }),
  request: (to, name, json, _, token, attachments) =>
    note({ type: "ask", to: described(to), event: name, args: argsOf(json, attachments), token, one: true }),
  collect: (to, name, json, _, token, attachments) =>
    note({ type: "ask", to: described(to), event: name, args: argsOf(json, attachments), token }),
  findClients: (to, _most, _wait, token) => note({ type: "find", to: described(to), token }),
  listChannels: (namespace, _most, _wait, token) => note({ type: "rooms", namespace, token }),
  disconnect: (to, close) => note({ type: "disconnect", to: described(to), close }),
  patchAttributes: (client, patch) => note({ type: "attributes", client, patch: JSON.parse(patch) }),
  refuse: (message, data) => note({ type: "refuse", message, ...(data === undefined ? {} : { data: JSON.parse(data) }) }),
  custom: (node, kind, data) => note({ type: "custom", ...(node ? { node } : {}), kind, data: Buffer.from(data) }),
  keyGet: (bucket, key) => stored(bucket, key),
  keySet: (bucket, key, value) => write(bucket, key, Uint8Array.from(value)),
  keyDelete: (bucket, key) => write(bucket, key, undefined),
  keyAdd: (bucket, key, by) => write(bucket, key, encoder.encode(String(Number(decoder.decode(stored(bucket, key) ?? encoder.encode("0"))) + by))),
  timerAt: (client, key, time, kind, data) =>
    note({ type: "timer", of: client ? "client" : "app", key, at: time, kind, data: JSON.parse(decoder.decode(data)) }),
  timerEvery: (client, key, period, kind, data) =>
    note({ type: "timer", of: client ? "client" : "app", key, every: period, kind, data: JSON.parse(decoder.decode(data)) }),
  timerCancel: (client, key) => note({ type: "cancel", of: client ? "client" : "app", key }),
  keyList(bucket, prefix) {
    const keys = new Set(buckets.get(bucket)?.keys());
    for (const [written, key, value] of event.writes) if (written === bucket) value === undefined ? keys.delete(key) : keys.add(key);
    return [...keys].filter((key) => key.startsWith(prefix)).sort();
  },
  log: (level, _, text) => [console.debug, console.info, console.warn, console.error][level]?.(text),
  read: () => undefined,
  context: () => ({ app: event.client?.namespace ?? "/", attempt: 1 }),
  timeLeft: () => 5_000,
  random: (length) => crypto.randomBytes(length),
};

/** What was asked for since the last event ended; that is forgotten with it. */
function take() {
  const { commands, writes } = event;
  event = begin();
  return { commands, writes };
}

function carryOut(writes) {
  for (const [bucket, key, value] of writes) {
    if (!buckets.has(bucket)) buckets.set(bucket, new Map());
    if (value === undefined) buckets.get(bucket).delete(key);
    else buckets.get(bucket).set(key, value);
  }
}

/** The clients that a command is for. */
function audience({ namespace = event.client?.namespace ?? "/", all, rooms = [], except = [] }) {
  const isOne = (client, names) => names.some((name) => name === client.id || client.rooms.has(name));
  return [...clients.values()].filter(
    (client) => client.namespace === namespace && (all || isOne(client, rooms)) && !isOne(client, except),
  );
}

module.exports = {
  host,
  config,
  clients,
  buckets,
  take,
  carryOut,
  audience,
  of: (client) => (event.client = client),
};
