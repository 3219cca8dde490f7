// Socket.IO's server API on plugnode: Server, Namespace, Socket and BroadcastOperator with the methods of Socket.IO 4.
//
// Each instance has its own Socket object for a client. If another instance handled the client's connection, the object is created by
// replaying the `connection` listener, muted. The state that all instances must share (`data`, properties that the program sets on
// the socket, rooms, handshake) is stored in the client's attributes, which come with each of its events.

const internal = require("internal");
const EventEmitter = require("events");

const { effects, host, run } = internal;

const RESERVED = new Set(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);
/** Timeout of requests for which the program sets none. Socket.IO would wait forever. */
const DEFAULT_TIMEOUT_MS = 60_000;
/** The limit of clients that `fetchSockets` returns. */
const MAX_FETCHED = 10_000;
/** The attribute that holds this module's own data: `h` handshake, `r` rooms, `x` refused. */
const OWN_KEY = "plugnode";
/** Matches possible client ids. A matching name selects the client as well as the room of that name. */
const CLIENT_ID = /^(?:\/[^#]*#)?[\w-]{16,40}$/;

const asList = (rooms) => (Array.isArray(rooms) ? rooms : rooms instanceof Set ? [...rooms] : [rooms]).map(String);

// ---- Sending ----

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

  constructor(namespace, rooms = new Set(), except = new Set(), flags = {}) {
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
      { ...this.#flags, ...flags },
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
    const { data = {}, [OWN_KEY]: stored } = attributes;
    this.id = id;
    this.data = data;
    this.rooms = new Set([id, ...channels]);
    this.handshake = handshakeOf(stored?.h);
    Object.defineProperty(this, "operator", { value: new BroadcastOperator(namespace, new Set([id])), enumerable: false });
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
      value(...args) {
        return operatorOf(this)[name](...args);
      },
      writable: true,
      configurable: true,
    });
  }
  for (const name of ["volatile", "local"]) {
    Object.defineProperty(target, name, {
      get() {
        return operatorOf(this)[name];
      },
      configurable: true,
    });
  }
  for (const name of ["send", "write"]) {
    Object.defineProperty(target, name, {
      value(...args) {
        this.emit("message", ...args);
        return this;
      },
      writable: true,
      configurable: true,
    });
  }
}

// ---- Handshakes ----

const queryOf = (text) => Object.fromEntries(new URLSearchParams(text));
/** Matches the query parameters of the transport. */
const TRANSPORT_PARAMS = /^(EIO|transport|t|sid|b64|j)$/;

function headersOf(flat) {
  const headers = {};
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [name, value] = [flat[at], flat[at + 1]];
    if (headers[name] === undefined) headers[name] = value;
    else headers[name] += name === "cookie" ? `; ${value}` : `, ${value}`;
  }
  return headers;
}

/** Restores a handshake from its stored parts: auth, query, and the fields that the program read when the client connected. */
function handshakeOf(stored = {}) {
  const query = queryOf(stored.q ?? "");
  return {
    headers: stored.headers ?? {},
    time: stored.time ?? new Date(stored.issued ?? 0).toString(),
    issued: stored.issued ?? 0,
    address: stored.address ?? "",
    xdomain: Boolean(stored.headers?.origin),
    secure: false,
    url: `/socket.io/?${stored.q ?? ""}`,
    query,
    auth: stored.a ?? {},
  };
}

/** The handshake of a connecting client. Adds each field that the program reads to `stored`, for other instances. */
function freshHandshake({ auth, query, headers, address }, stored) {
  const own = new URLSearchParams(query);
  for (const name of [...own.keys()]) if (TRANSPORT_PARAMS.test(name)) own.delete(name);
  if (auth !== undefined && auth !== null) stored.a = JSON.parse(auth);
  if (own.size > 0) stored.q = own.toString();
  const handshake = handshakeOf(stored);
  const issued = Date.now();
  handshake.query = queryOf(query);
  handshake.url = `/socket.io/?${query}`;
  const defineLazily = (name, make) => {
    let value;
    Object.defineProperty(handshake, name, {
      get: () => (stored[name] = value ??= make()),
      set: (given) => {
        stored[name] = value = given;
      },
      enumerable: true,
      configurable: true,
    });
  };
  defineLazily("headers", () => headersOf(headers));
  defineLazily("issued", () => issued);
  defineLazily("time", () => new Date(issued).toString());
  defineLazily("address", () => (address ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1"));
  return handshake;
}

// ---- Attributes ----

/** A canonical text: equal for values with equal JSON. An absent field equals null. */
function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  if (typeof value.toJSON === "function") return canonical(value.toJSON());
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  const parts = [];
  for (const key of Object.keys(value).sort()) {
    const text = canonical(value[key]);
    if (text !== "null") parts.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${parts.join()}}`;
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** The merge patch that turns `old` into `now`; undefined if they are equal. */
function patchOf(old, now) {
  let patch;
  const set = (key, value) => {
    patch ??= {};
    Object.defineProperty(patch, key, { value, enumerable: true, configurable: true, writable: true });
  };
  for (const key of Object.keys(old)) if (!Object.hasOwn(now, key)) set(key, null);
  for (const key of Object.keys(now)) {
    const [before, after] = [Object.hasOwn(old, key) ? old[key] : undefined, now[key]];
    if (isObject(before) && isObject(after)) {
      const inner = patchOf(before, after);
      if (inner) set(key, inner);
    } else if (canonical(before) !== canonical(after)) set(key, after);
  }
  return patch;
}

/** The JSON value of a property, or undefined if it has none; such a property stays in this instance. */
function jsonOf(value) {
  if (typeof value === "function" || typeof value === "symbol" || value === undefined) return undefined;
  try {
    const text = JSON.stringify(value);
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

// ---- Sockets ----

/** The key of a socket's internal state, which must not collide with properties of the program. */
const STATE = Symbol("state");

class Socket extends EventEmitter {
  constructor(nsp, client) {
    super();
    Object.defineProperty(this, STATE, {
      value: {
        nsp,
        id: client.id,
        data: {},
        rooms: new Set([client.id]),
        stored: {},
        // The attributes: the text that was restored last, and the object as it is stored now.
        text: undefined,
        saved: {},
        isConnected: true,
        flags: {},
        middlewares: [],
        any: [],
        anyOutgoing: [],
        handshake: undefined,
        recovered: false,
      },
      enumerable: false,
    });
  }

  get id() {
    return this[STATE].id;
  }
  get nsp() {
    return this[STATE].nsp;
  }
  get server() {
    return this[STATE].nsp.server;
  }
  get data() {
    return this[STATE].data;
  }
  set data(data) {
    this[STATE].data = data;
  }
  get rooms() {
    return this[STATE].rooms;
  }
  get connected() {
    return this[STATE].isConnected;
  }
  get disconnected() {
    return !this[STATE].isConnected;
  }
  get recovered() {
    return this[STATE].recovered;
  }
  get handshake() {
    return (this[STATE].handshake ??= handshakeOf(this[STATE].stored.h));
  }
  get client() {
    return { id: this.id, request: this.request, conn: this.conn };
  }
  get request() {
    const { handshake } = this;
    return {
      get headers() {
        return handshake.headers;
      },
      url: handshake.url,
      _query: handshake.query,
      get connection() {
        return { remoteAddress: handshake.address };
      },
      get socket() {
        return { remoteAddress: handshake.address };
      },
    };
  }
  get conn() {
    const { handshake } = this;
    return {
      id: this.id,
      transport: { name: this[STATE].transport ?? "websocket" },
      get remoteAddress() {
        return handshake.address;
      },
      on() {
        return this;
      },
      once() {
        return this;
      },
      close: () => void this.disconnect(true),
    };
  }

  // -- Emitting to this client --

  emit(event, ...args) {
    event = checkName(event);
    const state = this[STATE];
    const { volatile, timeout } = state.flags;
    state.flags = {};
    const callback = typeof args.at(-1) === "function" ? args.pop() : undefined;
    for (const listener of state.anyOutgoing) listener(event, ...args);
    const [json, attachments] = internal.encode(args);
    const to = audienceOfSocket(state);
    if (!callback) {
      effects.publish(to, event, json, volatile ? 1 : 0, attachments);
      return true;
    }
    const send = (token) => host.request(to, event, json, timeout ?? DEFAULT_TIMEOUT_MS, token, attachments);
    internal.sendQuery(send, state.id, (answer, error) => {
      if (timeout !== undefined) return answer ? callback(null, ...answer) : callback(error ?? timeoutError());
      // Without a timeout, Socket.IO never calls the callback if there is no answer.
      return answer ? callback(...answer) : undefined;
    });
    return true;
  }
  emitWithAck(event, ...args) {
    const state = this[STATE];
    state.flags.timeout ??= DEFAULT_TIMEOUT_MS;
    return promiseOf((done) => this.emit(event, ...args, done));
  }
  send(...args) {
    this.emit("message", ...args);
    return this;
  }
  write(...args) {
    return this.send(...args);
  }
  timeout(milliseconds) {
    this[STATE].flags.timeout = milliseconds;
    return this;
  }
  get volatile() {
    this[STATE].flags.volatile = true;
    return this;
  }
  compress() {
    return this;
  }

  // -- Emitting to others --

  get #others() {
    const { nsp, id, flags } = this[STATE];
    this[STATE].flags = {};
    return new BroadcastOperator(nsp.name, new Set(), new Set([id]), flags);
  }
  get broadcast() {
    return this.#others;
  }
  get local() {
    return this.#others.local;
  }
  to(room) {
    return this.#others.to(room);
  }
  in(room) {
    return this.#others.to(room);
  }
  except(room) {
    return this.#others.except(room);
  }

  // -- Rooms --

  join(rooms) {
    const state = this[STATE];
    const list = asList(rooms);
    for (const room of list) state.rooms.add(room);
    effects.subscribe(audienceOfSocket(state), list);
  }
  leave(room) {
    const state = this[STATE];
    state.rooms.delete(String(room));
    effects.unsubscribe(audienceOfSocket(state), [String(room)]);
  }
  leaveAll() {
    for (const room of this.rooms) if (room !== this.id) this.leave(room);
  }
  disconnect(close = false) {
    const state = this[STATE];
    if (!state.isConnected) return this;
    effects.disconnect(audienceOfSocket(state), close);
    state.isConnected = internal.isMuted();
    return this;
  }

  // -- Receiving --

  use(middleware) {
    this[STATE].middlewares.push(middleware);
    return this;
  }
  onAny(listener) {
    this[STATE].any.push(listener);
    return this;
  }
  prependAny(listener) {
    this[STATE].any.unshift(listener);
    return this;
  }
  offAny(listener) {
    this[STATE].any = listener ? this[STATE].any.filter((known) => known !== listener) : [];
    return this;
  }
  listenersAny() {
    return this[STATE].any;
  }
  onAnyOutgoing(listener) {
    this[STATE].anyOutgoing.push(listener);
    return this;
  }
  prependAnyOutgoing(listener) {
    this[STATE].anyOutgoing.unshift(listener);
    return this;
  }
  offAnyOutgoing(listener) {
    this[STATE].anyOutgoing = listener ? this[STATE].anyOutgoing.filter((known) => known !== listener) : [];
    return this;
  }
  listenersAnyOutgoing() {
    return this[STATE].anyOutgoing;
  }
}

/** Updates a socket from its client's attributes, if they have changed. */
function restore(socket, client) {
  const state = socket[STATE];
  if (state.text === client.attributes) return;
  state.text = client.attributes;
  const { data = {}, [OWN_KEY]: stored = {}, ...own } = JSON.parse(client.attributes);
  if (canonical(jsonOf(state.data)) !== canonical(data)) state.data = data;
  for (const key of Object.keys(own)) {
    // Attributes must not overwrite methods such as `constructor` or `emit`.
    if (key in Socket.prototype) continue;
    if (canonical(jsonOf(socket[key])) !== canonical(own[key])) socket[key] = own[key];
  }
  for (const key of Object.keys(state.saved)) {
    if (key !== "data" && key !== OWN_KEY && !Object.hasOwn(own, key)) delete socket[key];
  }
  state.stored = stored;
  state.rooms = new Set([state.id, ...(stored.r ?? [])]);
  // Parsed again, because the program may change the objects above.
  state.saved = JSON.parse(client.attributes);
}

/** Writes changed state to the client's attributes. */
function save(socket) {
  const state = socket[STATE];
  if (!state.isConnected) return;
  const now = {};
  for (const key of Object.keys(socket)) {
    const value = jsonOf(socket[key]);
    if (value !== undefined && value !== null) now[key] = value;
  }
  const data = jsonOf(state.data);
  if (data !== undefined && data !== null && Object.keys(data).length > 0) now.data = data;
  const rooms = [...state.rooms].filter((room) => room !== state.id);
  const { r: _, h, ...stored } = state.stored;
  if (h && Object.keys(h).length > 0) stored.h = h;
  if (rooms.length > 0) stored.r = rooms;
  if (Object.keys(stored).length > 0) now[OWN_KEY] = jsonOf(stored);
  const patch = patchOf(state.saved, now);
  if (!patch) return;
  effects.patchAttributes(state.id, JSON.stringify(patch));
  state.saved = now;
}

/** Saves a socket's state when the event is committed, and reloads it after a failure. */
function saveOnCommit(socket) {
  internal.onCommit(() => save(socket));
  internal.onFailure(() => {
    // The attributes of the next event are restored even if their text is the same.
    const state = socket[STATE];
    state.text = undefined;
  });
}

// ---- Namespaces ----

class Namespace extends EventEmitter {
  #middlewares = [];
  #server;

  constructor(server, name) {
    super();
    this.#server = server;
    this.name = name;
    /** The clients known to this instance. */
    this.sockets = new Map();
  }
  get server() {
    return this.#server;
  }
  use(middleware) {
    this.#middlewares.push(middleware);
    return this;
  }
  get middlewares() {
    return this.#middlewares;
  }
  /** The rooms and clients known to this instance. */
  get adapter() {
    const { sockets } = this;
    return {
      get rooms() {
        const rooms = new Map();
        for (const socket of sockets.values()) {
          for (const room of socket.rooms) {
            if (!rooms.has(room)) rooms.set(room, new Set());
            rooms.get(room).add(socket.id);
          }
        }
        return rooms;
      },
      get sids() {
        return new Map([...sockets.values()].map((socket) => [socket.id, socket.rooms]));
      },
      on() {
        return this;
      },
    };
  }
  compress() {
    return this;
  }
}
delegateBroadcasts(Namespace.prototype, (namespace) => new BroadcastOperator(namespace.name));

/** A dynamic namespace: the parent of all namespaces whose names match. */
class ParentNamespace extends Namespace {
  #matcher;

  constructor(server, matcher) {
    super(server, "/_");
    this.#matcher = matcher;
    this.children = new Set();
  }
  matches(name) {
    const matcher = this.#matcher;
    if (matcher instanceof RegExp) return matcher.test(name);
    let isMatch = false;
    matcher(name, {}, (error, allowed) => {
      isMatch = !error && Boolean(allowed);
    });
    return isMatch;
  }
  child(name) {
    const child = new Namespace(this.server, name);
    child.parent = this;
    this.children.add(child);
    return child;
  }
}

class Server extends EventEmitter {
  #namespaces = new Map();
  #parents = [];
  #unknown = new Set();

  constructor(server, options) {
    super();
    this.options = options ?? (isObject(server) ? server : {}) ?? {};
    /** The namespace `/`. */
    this.sockets = this.of("/");
    const { sockets } = this;
    this.engine = {
      get clientsCount() {
        return sockets.sockets.size;
      },
      on() {
        return this;
      },
      use() {},
      generateId: undefined,
    };
    internal.addApi(new ServerApi(this));
  }

  of(name, listener) {
    if (typeof name === "function" || name instanceof RegExp) {
      const parent = new ParentNamespace(this, name);
      this.#parents.push(parent);
      if (listener) parent.on("connection", listener);
      return parent;
    }
    name = String(name);
    if (!name.startsWith("/")) name = `/${name}`;
    let namespace = this.#namespaces.get(name);
    if (!namespace) {
      namespace = new Namespace(this, name);
      this.#namespaces.set(name, namespace);
    }
    if (listener) namespace.on("connection", listener);
    return namespace;
  }
  /** The namespace of this name, if the program defines it. */
  find(name) {
    const known = this.#namespaces.get(name);
    if (known) return known;
    const child = this.#parents.find((parent) => parent.matches(name))?.child(name);
    if (child) this.#namespaces.set(name, child);
    else if (!this.#unknown.has(name) && this.#unknown.size < 100) {
      this.#unknown.add(name);
      console.warn(`ignored clients of namespace ${name}: define it with io.of, or bind the app to another namespace`);
    }
    return child;
  }

  // The server delegates to its main namespace.
  on(event, listener) {
    this.sockets.on(event, listener);
    return this;
  }
  addListener(event, listener) {
    return this.on(event, listener);
  }
  once(event, listener) {
    this.sockets.once(event, listener);
    return this;
  }
  off(event, listener) {
    this.sockets.off(event, listener);
    return this;
  }
  removeListener(event, listener) {
    return this.off(event, listener);
  }
  removeAllListeners(event) {
    this.sockets.removeAllListeners(event);
    return this;
  }
  listeners(event) {
    return this.sockets.listeners(event);
  }
  use(middleware) {
    this.sockets.use(middleware);
    return this;
  }

  // No effect: plugnode's io-nodes accept the connections, and their configuration has paths and origins.
  attach() {
    return this;
  }
  listen() {
    return this;
  }
  bind() {
    return this;
  }
  onconnection() {
    return this;
  }
  path() {
    return this;
  }
  serveClient() {
    return this;
  }
  adapter() {
    return this;
  }
  connectTimeout() {
    return this;
  }
  compress() {
    return this;
  }
  close(done) {
    done?.();
    return Promise.resolve();
  }
  get _nsps() {
    return this.#namespaces;
  }
  get httpServer() {
    return undefined;
  }
}
delegateBroadcasts(Server.prototype, (server) => new BroadcastOperator(server.sockets.name));

// ---- Dispatch ----

/** Delivers the host's events to a server's namespaces and sockets. */
class ServerApi {
  #server;

  constructor(server) {
    this.#server = server;
  }

  /** Whether this instance has the socket of a client. True for unknown namespaces. */
  knows({ id, namespace }) {
    return this.#server.find(namespace)?.sockets.has(id) ?? true;
  }

  replayConnection(client) {
    const namespace = this.#server.find(client.namespace);
    const socket = new Socket(namespace, client);
    restore(socket, client);
    namespace.sockets.set(client.id, socket);
    internal.onFailure(() => namespace.sockets.delete(client.id));
    this.#connected(namespace, socket);
  }

  connection(client, handshake) {
    const namespace = this.#server.find(client.namespace);
    if (!namespace) return;
    const socket = new Socket(namespace, client);
    restore(socket, client);
    const state = socket[STATE];
    state.stored = { ...state.stored, h: {} };
    state.handshake = freshHandshake(handshake, state.stored.h);
    state.transport = handshake.transport;
    state.recovered = handshake.recovered;
    saveOnCommit(socket);
    internal.onFailure(() => namespace.sockets.delete(client.id));
    const middlewares = [...(namespace.parent ?? namespace).middlewares, ...(namespace.parent ? namespace.middlewares : [])];
    let isDecided = false;
    // A client that no middleware refuses is connected, so a missing next() must fail the event.
    internal.runAfterPending(() => {
      if (!isDecided) internal.fail(new Error("a middleware of io.use did not call next(): call next() to accept the client, or next(error) to refuse it"));
    });
    runMiddlewares(middlewares, [socket], (error) => {
      isDecided = true;
      if (error) return refuse(socket, error);
      namespace.sockets.set(client.id, socket);
      this.#connected(namespace, socket);
    });
  }

  #connected(namespace, socket) {
    for (const name of ["connect", "connection"]) {
      if (namespace.parent) EventEmitter.call(namespace.parent, name, [socket], run);
      EventEmitter.call(namespace, name, [socket], run);
    }
  }

  #socketOf(client) {
    const socket = this.#server.find(client.namespace)?.sockets.get(client.id);
    if (!socket) return undefined;
    restore(socket, client);
    return socket[STATE].stored.x ? undefined : socket;
  }

  message(client, event, args, ack) {
    const socket = this.#socketOf(client);
    if (!socket || RESERVED.has(event)) return;
    saveOnCommit(socket);
    const values = args();
    if (ack !== undefined && ack !== null) values.push(ackCallback(ack));
    const packet = [event, ...values];
    runMiddlewares(socket[STATE].middlewares, [packet], (error) => {
      if (error) {
        if (!EventEmitter.call(socket, "error", [error], run)) internal.fail(error);
        return;
      }
      const [name, ...given] = packet;
      const withoutAck = typeof given.at(-1) === "function" && ack ? given.slice(0, -1) : given;
      for (const listener of [...socket[STATE].any]) run(() => listener.call(socket, name, ...withoutAck));
      EventEmitter.call(socket, name, given, run);
    });
  }

  disconnect(client, reason, rooms) {
    const socket = this.#server.find(client.namespace)?.sockets.get(client.id);
    if (!socket) return;
    // After the loss of an io-node the event has no attributes; the state in memory is newer.
    if (reason !== "node lost") restore(socket, client);
    if (socket[STATE].stored.x) return;
    const { nsp } = socket[STATE];
    // The host knows the rooms that other sockets made it join; the attributes have those of its own last events.
    for (const room of rooms ?? []) socket[STATE].rooms.add(room);
    EventEmitter.call(socket, "disconnecting", [reason, undefined], run);
    nsp.sockets.delete(client.id);
    socket[STATE].isConnected = false;
    socket[STATE].rooms = new Set();
    EventEmitter.call(socket, "disconnect", [reason, undefined], run);
  }
}

/** Runs middlewares one after the other; each continues by calling `next`. */
function runMiddlewares(middlewares, args, done) {
  const list = [...middlewares];
  const step = (error) => {
    if (error || list.length === 0) return run(() => done(error));
    const middleware = list.shift();
    const release = internal.hold();
    let isCalled = false;
    run(() =>
      middleware(...args, (failure) => {
        if (isCalled) return;
        isCalled = true;
        step(failure);
        release();
      }),
    );
  };
  step();
}

/** The callback with which a listener answers an acknowledgement. */
function ackCallback(ack) {
  let isAnswered = false;
  return (...args) => {
    if (isAnswered) return;
    isAnswered = true;
    const [json, attachments] = internal.encode(args);
    effects.ack(ack, json, attachments);
  };
}

/** Refuses a client for a middleware. */
function refuse(socket, error) {
  const state = socket[STATE];
  const message = error instanceof Error ? error.message : String(error);
  try {
    effects.refuse(message, error.data === undefined ? undefined : JSON.stringify(error.data));
  } catch (denied) {
    // Without admission the client is already connected: ignore its further events and disconnect it.
    console.warn(`disconnected a client that a middleware refused (${message}): ${denied.message}`);
    state.stored.x = 1;
    effects.disconnect(audienceOfSocket(state), false);
  }
}

/** The call of older programs: `require("socket.io")(server)`. */
const createServer = (server, options) => new Server(server, options);

module.exports = Object.assign(createServer, { Server, Namespace, Socket, RemoteSocket, BroadcastOperator, default: Server });
