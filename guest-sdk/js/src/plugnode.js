// The plugnode API, without the classes of Socket.IO: event listeners, key-value store, timers, configuration, log.

const internal = require("internal");

const { effects, host, run } = internal;

// ---- Key-value ----

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** No options. Without a prototype: a property on Object.prototype must not be taken for an option. */
const NONE = { __proto__: null };

/** A bucket that the app is granted. Values are JSON. */
class Bucket {
  #name;
  constructor(name) {
    this.#name = name;
  }
  get(key) {
    const bytes = host.keyGet(this.#name, String(key));
    return bytes === undefined || bytes === null ? undefined : JSON.parse(decoder.decode(bytes));
  }
  getBytes(key) {
    return host.keyGet(this.#name, String(key)) ?? undefined;
  }
  set(key, value, { ttl } = NONE) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`cannot store a value of type ${typeof value}: JSON cannot represent it`);
    this.setBytes(key, encoder.encode(text), { ttl });
  }
  setBytes(key, bytes, { ttl } = NONE) {
    effects.keySet(this.#name, String(key), bytes, ttl);
  }
  has(key) {
    return this.getBytes(key) !== undefined;
  }
  delete(key) {
    effects.keyDelete(this.#name, String(key));
  }
  /** Adds to an integer, without reading it: concurrent additions do not cause events to be handled again. */
  add(key, by = 1) {
    if (!Number.isSafeInteger(by)) throw new TypeError("the number to add must be a safe integer");
    effects.keyAdd(this.#name, String(key), by);
  }
  keys(prefix = "") {
    return host.keyList(this.#name, String(prefix));
  }
}

const bucket = (name) => new Bucket(String(name));
const kv = Object.assign(bucket("default"), { bucket });

/**
 * An object that is kept in the key-value store: read by this call and, if it was changed, written back when the event succeeds. If
 * another event has changed it meanwhile, this event is handled again.
 */
function state(key, initial = {}, { bucket: name = "default" } = NONE) {
  const states = (internal.states ??= new Map());
  const id = `${name}\n${key}`;
  const existing = states.get(id);
  if (existing) return existing;
  const store = bucket(name);
  const value = store.get(key) ?? structuredClone(initial);
  if (internal.isMuted()) return value;
  const before = JSON.stringify(value);
  states.set(id, value);
  internal.onCommit(() => {
    states.delete(id);
    if (textOfState(key, value) !== before) store.set(key, value);
  });
  internal.onFailure(() => states.delete(id));
  return value;
}

function textOfState(key, value) {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    throw new TypeError(`cannot store the state ${JSON.stringify(String(key))}: JSON cannot represent it`, { cause });
  }
}

// ---- Listeners ----

/** A set of clients, selected by rooms and client ids. */
class Audience {
  #to;
  constructor(to) {
    // No prototype: a property on Object.prototype must not widen the audience.
    this.#to = { __proto__: null, ...to };
  }
  emit(event, ...args) {
    const [json, attachments] = internal.encode(args);
    effects.publish(this.#to, String(event), json, 0, attachments);
    return this;
  }
  join(...rooms) {
    effects.subscribe(this.#to, rooms.map(String));
    return this;
  }
  leave(...rooms) {
    effects.unsubscribe(this.#to, rooms.map(String));
    return this;
  }
  disconnect(close = false) {
    effects.disconnect(this.#to, close);
  }
  except(...rooms) {
    const clients = rooms.map((room) => (room instanceof Client ? room.id : String(room)));
    return new Audience({ ...this.#to, exceptClients: clients, exceptChannels: clients });
  }
}

/** The client whose event is being handled. */
class Client extends Audience {
  #attributes;
  constructor({ id, namespace, attributes }, rooms) {
    super({ clients: [id] });
    this.id = id;
    this.namespace = namespace;
    this.rooms = rooms && new Set(rooms);
    this.#attributes = attributes;
  }
  get attributes() {
    return JSON.parse(this.#attributes);
  }
  /** Merges these into the client's attributes; null removes an attribute. */
  set(patch) {
    effects.patchAttributes(this.id, JSON.stringify(patch));
  }
  to(...rooms) {
    return to(...rooms).except(this);
  }
  get others() {
    return all.except(this);
  }
}

const to = (...rooms) => new Audience({ channels: rooms.map(String), clients: rooms.map(String) });
const all = new Audience({ all: true });

const listeners = new Map();
const customs = new Map();

/** Calls `listener(client, ...args)` for each such event. Its return value answers the acknowledgement. */
function on(event, listener) {
  add(listeners, event, listener);
}

/** Calls `listener(data, { ackId, client })` for each custom event of this kind. Its return value answers a caller of the server API. */
function onCustom(kind, listener) {
  add(customs, String(kind), listener);
}

/** Answers the event that had this `ackId`. */
function acknowledge(ackId, ...args) {
  const [json, attachments] = internal.encode(args);
  effects.ack(String(ackId), json, attachments);
}

let isRegistered = false;

/** Adds a listener to those by event, timer kind or custom kind. */
function add(to, name, listener) {
  if (typeof listener !== "function") throw new TypeError("a listener must be a function");
  if (!isRegistered) internal.addApi(api);
  isRegistered = true;
  to.set(name, [...(to.get(name) ?? []), listener]);
}

/** Calls the listeners; what they return is the acknowledgement. */
function call(called = [], args, ackId) {
  for (const listener of called) {
    run(async () => {
      const answer = await listener(...args);
      if (ackId !== undefined && ackId !== null && answer !== undefined) acknowledge(ackId, answer);
    });
  }
}

const api = {
  connection(client, { auth, query, headers, address }) {
    const handshake = { auth: auth ? JSON.parse(auth) : undefined, query, headers, address };
    call(listeners.get("connection"), [new Client(client), handshake]);
  },
  message: (client, event, args, ack) => {
    // A client cannot emit the events that plugnode emits.
    if (event !== "connection" && event !== "disconnect") call(listeners.get(event), [new Client(client), ...args()], ack);
  },
  disconnect: (client, reason, rooms) => call(listeners.get("disconnect"), [new Client(client, rooms), reason]),
  custom(kind, data, contentType, of) {
    const { key, missed, "due-ms": due, "ack-id": ackId } = host.context() ?? {};
    const client = of && new Client(of);
    if (kind === PRESENCE) {
      for (const listener of presenceListeners) run(() => listener(JSON.parse(decoder.decode(data))));
    } else if (due !== undefined) {
      const about = { key, due: new Date(Number(due)), missed: Number(missed), client };
      for (const listener of timers.get(kind) ?? []) run(() => listener(JSON.parse(decoder.decode(data)), about));
    } else if (customs.has(kind)) {
      const value = contentType === "application/json" ? JSON.parse(decoder.decode(data)) : data;
      call(customs.get(kind), [value, { ackId, client }], ackId);
    }
  },
};

// ---- Durable timers ----

const timers = new Map();

/** Timers of the event's client, or of the app. */
class Timers {
  #isClientTimer;
  constructor(isClientTimer) {
    this.#isClientTimer = isClientTimer;
  }
  /** Sets a one-shot timer. A time in the past is due at once. Setting a key again replaces its timer. */
  at(key, time, kind, data = null) {
    const ms = Number(time);
    if (!(ms >= 0)) throw new TypeError("the time must be a Date, or milliseconds since 1970");
    effects.timerAt(this.#isClientTimer, String(key), ms, String(kind), encoder.encode(JSON.stringify(data)));
  }
  after(key, ms, kind, data = null) {
    this.at(key, Date.now() + Math.max(0, Number(ms)), kind, data);
  }
  every(key, ms, kind, data = null) {
    if (!(Number(ms) > 0)) throw new TypeError("the period must be a positive number of milliseconds");
    effects.timerEvery(this.#isClientTimer, String(key), Number(ms), String(kind), encoder.encode(JSON.stringify(data)));
  }
  cancel(key) {
    effects.timerCancel(this.#isClientTimer, String(key));
  }
}

const schedule = {
  client: new Timers(true),
  app: new Timers(false),
  /** Calls `listener(data, { key, due, missed, client })` for each due timer of this kind. */
  on(kind, listener) {
    add(timers, String(kind), listener);
  },
};

// ---- Presence ----

const PRESENCE = "plugnode.presence/1";
const presenceListeners = [];

/** Who is in a channel, across io-nodes, for the channels that the app's configuration names in `presence.channels`. */
const presence = {
  count: (channel) => host.presenceCount(String(channel)),
  members(channel) {
    const members = new Map();
    for (const { id, since, attributes } of host.presenceMembers(String(channel))) {
      members.set(id, { id, since: new Date(since), attributes: attributes && JSON.parse(attributes) });
    }
    return [...members.values()];
  },
  /** Calls `listener({ client, joined, left })` when a client joins or leaves such channels, if `presence.events` is set. */
  on(listener) {
    if (typeof listener !== "function") throw new TypeError("the listener must be a function");
    presenceListeners.push(listener);
  },
};

// ---- The rest ----

/** Throw this to have the event retried after a pause, instead of becoming a dead letter. */
class Retry extends Error {
  name = "Retry";
  retry = true;
}

const log = {
  debug: (...args) => console.debug(...args),
  info: (...args) => console.info(...args),
  warn: (...args) => console.warn(...args),
  error: (...args) => console.error(...args),
};

/** Sends a message to webhooks with this kind, and to the program that embeds the io-nodes, if one does. */
function sendCustom(kind, data = null) {
  const bytes = data instanceof Uint8Array ? data : encoder.encode(JSON.stringify(data));
  effects.custom(undefined, String(kind), bytes);
}

module.exports = {
  on,
  onCustom,
  sendCustom,
  acknowledge,
  to,
  all,
  kv,
  state,
  schedule,
  presence,
  config: internal.config,
  context: () => host.context(),
  log,
  Retry,
};
