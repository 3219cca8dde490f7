// A handler without Socket.IO's classes: listeners by event, the key-value store, the app's configuration, the log.

const internal = require("internal");

const { effects, host, run } = internal;

// ---- Key-value ----

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A bucket that the app is granted. Values are what JSON can say. */
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
  set(key, value, { ttl } = {}) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`a value is what JSON can say, and ${typeof value} is not`);
    this.setBytes(key, encoder.encode(text), { ttl });
  }
  setBytes(key, bytes, { ttl } = {}) {
    effects.keySet(this.#name, String(key), bytes, ttl);
  }
  has(key) {
    return this.getBytes(key) !== undefined;
  }
  delete(key) {
    effects.keyDelete(this.#name, String(key));
  }
  /** Adds to a number without reading it: events that do so at once do not stand in each other's way. */
  add(key, by = 1) {
    if (!Number.isSafeInteger(by)) throw new TypeError("what is added is an integer");
    effects.keyAdd(this.#name, String(key), by);
  }
  keys(prefix = "") {
    return host.keyList(this.#name, String(prefix));
  }
}

const bucket = (name) => new Bucket(String(name));
const kv = Object.assign(bucket("default"), { bucket });

/**
 * An object that outlives events and instances: read from the key-value store, and written back when the event ends well, if
 * it was changed. Should another event have changed it meanwhile, this one is handled again.
 */
function state(key, initial = {}, { bucket: name = "default" } = {}) {
  const states = (internal.states ??= new Map());
  const place = `${name}\n${key}`;
  const known = states.get(place);
  if (known) return known;
  const store = bucket(name);
  const value = store.get(key) ?? structuredClone(initial);
  if (internal.isMuted()) return value;
  const before = JSON.stringify(value);
  states.set(place, value);
  internal.atEnd(() => {
    states.delete(place);
    if (JSON.stringify(value) !== before) store.set(key, value);
  });
  internal.atFailure(() => states.delete(place));
  return value;
}

// ---- The plain handler ----

/** Clients and rooms to emit to. */
class Audience {
  #to;
  constructor(to) {
    // What a program has put on Object's prototype must not make it everybody's.
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

/** The client of the event that is handled. */
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
  /** Merges these into the client's attributes; null takes one away. */
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

/** Calls `listener(client, ...args)` for each such event of a client: an answer is what it returns. */
function on(event, listener) {
  if (typeof listener !== "function") throw new TypeError("a listener is a function");
  if (listeners.size === 0 && timers.size === 0) internal.addApp(plain);
  listeners.set(event, [...(listeners.get(event) ?? []), listener]);
}

function call(event, args, ack) {
  for (const listener of listeners.get(event) ?? []) {
    run(async () => {
      const answer = await listener(...args);
      if (ack !== undefined && ack !== null && answer !== undefined) {
        const [json, attachments] = internal.encode([answer]);
        effects.ack(ack, json, attachments);
      }
    });
  }
}

const plain = {
  connection(client, { auth, query, headers, address }) {
    const handshake = { auth: auth ? JSON.parse(auth) : undefined, query, headers, address };
    call("connection", [new Client(client), handshake]);
  },
  message: (client, event, args, ack) => {
    // A client can say these words, and is not believed.
    if (event !== "connection" && event !== "disconnect") call(event, [new Client(client), ...args()], ack);
  },
  disconnect: (client, reason, rooms) => call("disconnect", [new Client(client, rooms), reason]),
  custom(kind, data, contentType, client) {
    const due = host.context()?.["due-ms"];
    if (due === undefined) return;
    const { key, missed } = host.context();
    const about = { key, due: new Date(Number(due)), missed: Number(missed), client: client && new Client(client) };
    for (const listener of timers.get(kind) ?? []) run(() => listener(JSON.parse(decoder.decode(data)), about));
  },
};

// ---- Timers that outlive instances ----

const timers = new Map();

/** The timers of the event's client, or of the app. */
class Timers {
  #isOfClient;
  constructor(isOfClient) {
    this.#isOfClient = isOfClient;
  }
  /** Sets a timer to a time; one that is over is due at once. To set it again replaces it. */
  at(key, time, kind, data = null) {
    const ms = Number(time);
    if (!(ms >= 0)) throw new TypeError("a time is a Date, or milliseconds since 1970");
    effects.timerAt(this.#isOfClient, String(key), ms, String(kind), encoder.encode(JSON.stringify(data)));
  }
  after(key, ms, kind, data = null) {
    this.at(key, Date.now() + Math.max(0, Number(ms)), kind, data);
  }
  every(key, ms, kind, data = null) {
    if (!(Number(ms) > 0)) throw new TypeError("a period is a number of milliseconds");
    effects.timerEvery(this.#isOfClient, String(key), Number(ms), String(kind), encoder.encode(JSON.stringify(data)));
  }
  cancel(key) {
    effects.timerCancel(this.#isOfClient, String(key));
  }
}

const schedule = {
  client: new Timers(true),
  app: new Timers(false),
  /** Calls `listener(data, { key, due, missed, client })` for each timer of this kind that is due. */
  on(kind, listener) {
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    if (listeners.size === 0 && timers.size === 0) internal.addApp(plain);
    timers.set(String(kind), [...(timers.get(String(kind)) ?? []), listener]);
  },
};

// ---- The rest ----

/** Thrown, it has the event handled again a little later, instead of put aside. */
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

module.exports = {
  on,
  to,
  all,
  kv,
  state,
  schedule,
  config: internal.config,
  context: () => host.context(),
  log,
  Retry,
};
