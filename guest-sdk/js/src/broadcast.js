// Emitting to many clients: BroadcastOperator and RemoteSocket of Socket.IO's server.

const internal = require("internal");
const { handshakeOf } = require("handshake");
const { OWN_KEY } = require("attributes");

const { effects, host } = internal;

const RESERVED = new Set(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);
/** Timeout of requests for which the program sets none. Socket.IO would wait forever. */
const DEFAULT_TIMEOUT_MS = 60_000;
/** The limit of clients that `fetchSockets` returns. */
const MAX_FETCHED = 10_000;
/** Matches possible client ids. A matching name selects the client as well as the room of that name. */
const CLIENT_ID = /^(?:\/[^#]*#)?[\w-]{16,40}$/;

const asList = (rooms) => (Array.isArray(rooms) ? rooms : rooms instanceof Set ? [...rooms] : [rooms]).map(String);

function audienceOf(namespace, rooms, except) {
  // No prototype: a property on Object.prototype must not widen the audience.
  const to = { __proto__: null, ns: namespace };
  if (rooms.size === 0) to.all = true;
  else {
    to.channels = [...rooms];
    to.clients = to.channels.filter((room) => CLIENT_ID.test(room));
  }
  if (except.size > 0) {
    to.exceptChannels = [...except];
    to.exceptClients = to.exceptChannels.filter((room) => CLIENT_ID.test(room));
  }
  return to;
}

/** The audience of a single socket. */
const audienceOfSocket = ({ nsp, id }) => ({ __proto__: null, ns: nsp.name, clients: [id] });

const checkName = (event) => {
  if (RESERVED.has(event)) throw new Error(`"${String(event)}" is a reserved event name`);
  return String(event);
};

const timeoutError = () => new Error("operation has timed out");

/** A promise that is settled by an `(error, value)` callback. */
const promiseOf = (start) =>
  new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });

class BroadcastOperator {
  #namespace;
  #rooms;
  #except;
  #flags;

  constructor(namespace, rooms = new Set(), except = new Set(), flags = { __proto__: null }) {
    this.#namespace = namespace;
    this.#rooms = rooms;
    this.#except = except;
    this.#flags = flags;
  }
  #with({ rooms = [], except = [], flags = {} }) {
    return new BroadcastOperator(
      this.#namespace,
      new Set([...this.#rooms, ...rooms]),
      new Set([...this.#except, ...except]),
      { __proto__: null, ...this.#flags, ...flags },
    );
  }
  to(room) {
    return this.#with({ rooms: asList(room) });
  }
  in(room) {
    return this.to(room);
  }
  except(room) {
    return this.#with({ except: asList(room) });
  }
  compress() {
    return this;
  }
  timeout(milliseconds) {
    return this.#with({ flags: { timeout: milliseconds } });
  }
  get volatile() {
    return this.#with({ flags: { volatile: true } });
  }
  get local() {
    return this.#with({ flags: { local: true } });
  }
  get #to() {
    return audienceOf(this.#namespace, this.#rooms, this.#except);
  }

  emit(event, ...args) {
    event = checkName(event);
    const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const [json, attachments] = internal.encode(args);
    if (callback) {
      this.#collect(event, json, attachments, callback);
      return true;
    }
    const how = (this.#flags.volatile ? 1 : 0) | (this.#flags.local ? 2 : 0);
    effects.publish(this.#to, event, json, how, attachments);
    return true;
  }
  #collect(event, json, attachments, callback) {
    const wait = this.#flags.timeout ?? DEFAULT_TIMEOUT_MS;
    const send = (token) => host.collect(this.#to, event, json, wait, token, attachments);
    internal.sendQuery(send, undefined, (reply) => {
      const { answers = [], missing = [], silent = [] } = reply?.[0] ?? {};
      const values = answers.map(({ args }) => args[0]);
      const error = !reply || missing.length > 0 || silent.length > 0 ? Object.assign(timeoutError(), { responses: values }) : null;
      return callback(error, values);
    });
  }
  emitWithAck(event, ...args) {
    return promiseOf((done) => this.emit(event, ...args, done));
  }
  send(...args) {
    this.emit("message", ...args);
    return this;
  }
  write(...args) {
    return this.send(...args);
  }
  serverSideEmit() {
    throw new Error("serverSideEmit is not supported: instances share only clients, rooms and the key-value store");
  }

  fetchSockets() {
    return promiseOf((done) => {
      const wait = this.#flags.timeout ?? 5_000;
      const send = (token) => host.findClients(this.#to, MAX_FETCHED, wait, token);
      internal.sendQuery(send, undefined, (reply) => {
        const found = reply?.[0];
        if (!found || found.silent.length > 0) return done(timeoutError());
        return done(null, found.clients.map((client) => new RemoteSocket(this.#namespace, client)));
      });
    });
  }
  async allSockets() {
    return new Set((await this.fetchSockets()).map(({ id }) => id));
  }
  socketsJoin(rooms) {
    effects.subscribe(this.#to, asList(rooms));
  }
  socketsLeave(rooms) {
    effects.unsubscribe(this.#to, asList(rooms));
  }
  disconnectSockets(close = false) {
    effects.disconnect(this.#to, close);
  }
}

/** A client found by `fetchSockets`. */
class RemoteSocket {
  constructor(namespace, { id, attributes, channels }) {
    const { data = {}, [OWN_KEY]: stored, ...own } = attributes;
    // The properties that the program set on the socket, but none in place of the methods.
    for (const [name, value] of Object.entries(own)) {
      if (!(name in RemoteSocket.prototype)) Object.defineProperty(this, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true });
    }
    this.id = id;
    this.data = data;
    this.rooms = new Set([id, ...channels]);
    this.handshake = handshakeOf(stored?.h);
    Object.defineProperty(this, "operator", { __proto__: null, value: new BroadcastOperator(namespace, new Set([id])), enumerable: false });
  }
  emit(event, ...args) {
    return this.operator.emit(event, ...args);
  }
  timeout(milliseconds) {
    return this.operator.timeout(milliseconds);
  }
  join(rooms) {
    this.operator.socketsJoin(rooms);
  }
  leave(room) {
    this.operator.socketsLeave(room);
  }
  disconnect(close = false) {
    this.operator.disconnectSockets(close);
    return this;
  }
}

/** The methods that Server and Namespace delegate to a BroadcastOperator for all clients. */
const BROADCAST_METHODS = [
  "to",
  "in",
  "except",
  "timeout",
  "emit",
  "emitWithAck",
  "serverSideEmit",
  "fetchSockets",
  "allSockets",
  "socketsJoin",
  "socketsLeave",
  "disconnectSockets",
];

function delegateBroadcasts(target, operatorOf) {
  for (const name of BROADCAST_METHODS) {
    Object.defineProperty(target, name, {
      __proto__: null,
      value(...args) {
        return operatorOf(this)[name](...args);
      },
      writable: true,
      configurable: true,
    });
  }
  for (const name of ["volatile", "local"]) {
    Object.defineProperty(target, name, {
      __proto__: null,
      get() {
        return operatorOf(this)[name];
      },
      configurable: true,
    });
  }
  for (const name of ["send", "write"]) {
    Object.defineProperty(target, name, {
      __proto__: null,
      value(...args) {
        this.emit("message", ...args);
        return this;
      },
      writable: true,
      configurable: true,
    });
  }
}

module.exports = {
  RESERVED,
  DEFAULT_TIMEOUT_MS,
  BroadcastOperator,
  RemoteSocket,
  asList,
  audienceOfSocket,
  checkName,
  delegateBroadcasts,
  promiseOf,
  timeoutError,
};
