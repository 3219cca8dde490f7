// Socket.IO's server, over plugnode: Server, Namespace, Socket and BroadcastOperator with the methods of Socket.IO 4.
//
// A Socket is this instance's picture of a client. Where another instance handled the client's connection, the picture is
// made by running the `connection` listener again, muted; what must be the same in all pictures (`data`, properties that a
// program puts on a socket, rooms, handshake) is kept in the client's attributes, which come with each of its events.

const internal = require("internal");
const EventEmitter = require("events");

const { effects, host, run } = internal;

const RESERVED = new Set(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);
/** How long a question without a timeout waits; Socket.IO waits for ever. */
const PATIENCE = 60_000;
/** The most clients that are looked up at once. */
const MOST = 10_000;
/** The attribute with what is not the program's own. */
const OURS = "plugnode";
/** What can be the id of a client, and so is looked for among these as well as among rooms. */
const ID = /^(?:\/[^#]*#)?[\w-]{16,40}$/;

const asList = (rooms) => (Array.isArray(rooms) ? rooms : rooms instanceof Set ? [...rooms] : [rooms]).map(String);

// ---- Sending ----

function addressOf(namespace, rooms, except) {
  // Without a prototype: what a program has put on Object's must not make it everybody's.
  const to = { __proto__: null, ns: namespace };
  if (rooms.size === 0) to.all = true;
  else {
    to.channels = [...rooms];
    to.clients = to.channels.filter((room) => ID.test(room));
  }
  if (except.size > 0) {
    to.exceptChannels = [...except];
    to.exceptClients = to.exceptChannels.filter((room) => ID.test(room));
  }
  return to;
}

/** A client alone. */
const onlyOf = ({ nsp, id }) => ({ __proto__: null, ns: nsp.name, clients: [id] });

const checkName = (event) => {
  if (RESERVED.has(event)) throw new Error(`"${String(event)}" is a reserved event name`);
  return String(event);
};

const timeoutError = () => new Error("operation has timed out");

/** A promise that has Node's `(error, value)` callback as its end. */
const promised = (start) =>
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
    return addressOf(this.#namespace, this.#rooms, this.#except);
  }

  emit(event, ...args) {
    event = checkName(event);
    const answered = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const [json, attachments] = internal.encode(args);
    if (answered) {
      this.#collect(event, json, attachments, answered);
      return true;
    }
    const how = (this.#flags.volatile ? 1 : 0) | (this.#flags.local ? 2 : 0);
    effects.publish(this.#to, event, json, how, attachments);
    return true;
  }
  #collect(event, json, attachments, answered) {
    const wait = this.#flags.timeout ?? PATIENCE;
    const send = (token) => host.collect(this.#to, event, json, wait, token, attachments);
    internal.ask(send, undefined, (reply) => {
      const { answers = [], missing = [], silent = [] } = reply?.[0] ?? {};
      const values = answers.map(({ args }) => args[0]);
      const error = !reply || missing.length > 0 || silent.length > 0 ? Object.assign(timeoutError(), { responses: values }) : null;
      return answered(error, values);
    });
  }
  emitWithAck(event, ...args) {
    return promised((done) => this.emit(event, ...args, done));
  }
  send(...args) {
    this.emit("message", ...args);
    return this;
  }
  write(...args) {
    return this.send(...args);
  }
  serverSideEmit() {
    throw new Error("serverSideEmit is not there: instances share nothing but clients, rooms and the key-value store");
  }

  fetchSockets() {
    return promised((done) => {
      const wait = this.#flags.timeout ?? 5_000;
      const send = (token) => host.findClients(this.#to, MOST, wait, token);
      internal.ask(send, undefined, (reply) => {
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

/** What `fetchSockets` tells of a client. */
class RemoteSocket {
  constructor(namespace, { id, attributes, channels }) {
    const { data = {}, [OURS]: ours } = attributes;
    this.id = id;
    this.data = data;
    this.rooms = new Set([id, ...channels]);
    this.handshake = handshakeOf(ours?.h);
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

/** The methods that a Server and a Namespace pass on to a BroadcastOperator of all clients. */
const BROADCASTS = [
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

function passOn(target, operatorOf) {
  for (const name of BROADCASTS) {
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
/** Of the query, what the transport adds and no program asks for. */
const IS_TRANSPORTS = /^(EIO|transport|t|sid|b64|j)$/;

function headersOf(flat) {
  const headers = {};
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [name, value] = [flat[at], flat[at + 1]];
    if (headers[name] === undefined) headers[name] = value;
    else headers[name] += name === "cookie" ? `; ${value}` : `, ${value}`;
  }
  return headers;
}

/** From what is kept of a handshake: auth, query, and whatever was looked at when the client connected. */
function handshakeOf(kept = {}) {
  const query = queryOf(kept.q ?? "");
  return {
    headers: kept.headers ?? {},
    time: kept.time ?? new Date(kept.issued ?? 0).toString(),
    issued: kept.issued ?? 0,
    address: kept.address ?? "",
    xdomain: Boolean(kept.headers?.origin),
    secure: false,
    url: `/socket.io/?${kept.q ?? ""}`,
    query,
    auth: kept.a ?? {},
  };
}

/** That of a client that connects now: `kept` grows by what is looked at, for instances that come to it later. */
function freshHandshake({ auth, query, headers, address }, kept) {
  const own = new URLSearchParams(query);
  for (const name of [...own.keys()]) if (IS_TRANSPORTS.test(name)) own.delete(name);
  if (auth !== undefined && auth !== null) kept.a = JSON.parse(auth);
  if (own.size > 0) kept.q = own.toString();
  const handshake = handshakeOf(kept);
  const issued = Date.now();
  handshake.query = queryOf(query);
  handshake.url = `/socket.io/?${query}`;
  const look = (name, make) => {
    let value;
    Object.defineProperty(handshake, name, {
      get: () => (kept[name] = value ??= make()),
      set: (given) => {
        kept[name] = value = given;
      },
      enumerable: true,
      configurable: true,
    });
  };
  look("headers", () => headersOf(headers));
  look("issued", () => issued);
  look("time", () => new Date(issued).toString());
  look("address", () => (address ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1"));
  return handshake;
}

// ---- Attributes ----

/** The same text for values that are the same in JSON, in which an absent value and null count as one. */
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

/** What has to be merged into `old` for it to be `now`. Undefined when nothing has. */
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

/** Values that can be kept: what JSON has no words for stays with this instance. */
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

/** What is not a property: those are the program's own. */
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
        kept: {},
        // The attributes as they were read last, and as they are known to be: text, and object.
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
    return (this[STATE].handshake ??= handshakeOf(this[STATE].kept.h));
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

  // -- To this client --

  emit(event, ...args) {
    event = checkName(event);
    const state = this[STATE];
    const { volatile, timeout } = state.flags;
    state.flags = {};
    const answered = typeof args.at(-1) === "function" ? args.pop() : undefined;
    for (const listener of state.anyOutgoing) listener(event, ...args);
    const [json, attachments] = internal.encode(args);
    const to = onlyOf(state);
    if (!answered) {
      effects.publish(to, event, json, volatile ? 1 : 0, attachments);
      return true;
    }
    const send = (token) => host.request(to, event, json, timeout ?? PATIENCE, token, attachments);
    internal.ask(send, state.id, (answer, error) => {
      if (timeout !== undefined) return answer ? answered(null, ...answer) : answered(error ?? timeoutError());
      // Socket.IO calls it never.
      return answer ? answered(...answer) : undefined;
    });
    return true;
  }
  emitWithAck(event, ...args) {
    const state = this[STATE];
    state.flags.timeout ??= PATIENCE;
    return promised((done) => this.emit(event, ...args, done));
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

  // -- To others --

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
    effects.subscribe(onlyOf(state), list);
  }
  leave(room) {
    const state = this[STATE];
    state.rooms.delete(String(room));
    effects.unsubscribe(onlyOf(state), [String(room)]);
  }
  leaveAll() {
    for (const room of this.rooms) if (room !== this.id) this.leave(room);
  }
  disconnect(close = false) {
    const state = this[STATE];
    if (!state.isConnected) return this;
    effects.disconnect(onlyOf(state), close);
    state.isConnected = internal.isMuted();
    return this;
  }

  // -- What comes --

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

/** Takes over what the client's attributes say, where that is news. */
function restore(socket, client) {
  const state = socket[STATE];
  if (state.text === client.attributes) return;
  state.text = client.attributes;
  const { data = {}, [OURS]: ours = {}, ...own } = JSON.parse(client.attributes);
  if (canonical(jsonOf(state.data)) !== canonical(data)) state.data = data;
  for (const key of Object.keys(own)) {
    // `constructor` or `emit` is nothing that a client's attributes may put in the way.
    if (key in Socket.prototype) continue;
    if (canonical(jsonOf(socket[key])) !== canonical(own[key])) socket[key] = own[key];
  }
  for (const key of Object.keys(state.saved)) {
    if (key !== "data" && key !== OURS && !Object.hasOwn(own, key)) delete socket[key];
  }
  state.kept = ours;
  state.rooms = new Set([state.id, ...(ours.r ?? [])]);
  // Read once more: what the program has of it is the program's to change.
  state.saved = JSON.parse(client.attributes);
}

/** Puts what has changed into the client's attributes. */
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
  const { r: _, h, ...kept } = state.kept;
  if (h && Object.keys(h).length > 0) kept.h = h;
  if (rooms.length > 0) kept.r = rooms;
  if (Object.keys(kept).length > 0) now[OURS] = jsonOf(kept);
  const patch = patchOf(state.saved, now);
  if (!patch) return;
  effects.patchAttributes(state.id, JSON.stringify(patch));
  state.saved = now;
}

/** Has what this event changes kept when it ends well, and forgotten when it does not. */
function keep(socket) {
  internal.atEnd(() => save(socket));
  internal.atFailure(() => {
    // The next event brings what is true.
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
    /** Those that this instance knows. */
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
  /** As far as this instance knows. */
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
passOn(Namespace.prototype, (namespace) => new BroadcastOperator(namespace.name));

/** A namespace that stands for all whose names fit. */
class ParentNamespace extends Namespace {
  #fits;

  constructor(server, fits) {
    super(server, "/_");
    this.#fits = fits;
    this.children = new Set();
  }
  fits(name) {
    const fits = this.#fits;
    if (fits instanceof RegExp) return fits.test(name);
    let is = false;
    fits(name, {}, (error, allowed) => {
      is = !error && Boolean(allowed);
    });
    return is;
  }
  child(name) {
    const child = new Namespace(this.server, name);
    child.parent = this;
    this.children.add(child);
    return child;
  }
}

const listensTo = (namespace) => namespace.parent ?? namespace;

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
    internal.addApp(new App(this));
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
  /** That of a client, if the program has it. */
  find(name) {
    const known = this.#namespaces.get(name);
    if (known) return known;
    const child = this.#parents.find((parent) => parent.fits(name))?.child(name);
    if (child) this.#namespaces.set(name, child);
    else if (!this.#unknown.has(name) && this.#unknown.size < 100) {
      this.#unknown.add(name);
      console.warn(`the program has no namespace ${name}: name it by io.of, or bind the app to another namespace`);
    }
    return child;
  }

  // The program's own namespace stands for the server.
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

  // What plugnode does by itself: its io-nodes listen, and know their paths and their origins.
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
passOn(Server.prototype, (server) => new BroadcastOperator(server.sockets.name));

// ---- From events to listeners ----

class App {
  #server;

  constructor(server) {
    this.#server = server;
  }

  /** Whether this instance has the listeners of a client. */
  knows({ id, namespace }) {
    return this.#server.find(namespace)?.sockets.has(id) ?? true;
  }

  introduce(client) {
    const namespace = this.#server.find(client.namespace);
    const socket = new Socket(namespace, client);
    restore(socket, client);
    namespace.sockets.set(client.id, socket);
    internal.atFailure(() => namespace.sockets.delete(client.id));
    this.#connected(namespace, socket);
  }

  connection(client, handshake) {
    const namespace = this.#server.find(client.namespace);
    if (!namespace) return;
    const socket = new Socket(namespace, client);
    restore(socket, client);
    const state = socket[STATE];
    state.kept = { ...state.kept, h: {} };
    state.handshake = freshHandshake(handshake, state.kept.h);
    state.transport = handshake.transport;
    state.recovered = handshake.recovered;
    keep(socket);
    internal.atFailure(() => namespace.sockets.delete(client.id));
    const middlewares = [...listensTo(namespace).middlewares, ...(namespace.parent ? namespace.middlewares : [])];
    let isDecided = false;
    // Whoever is not refused is in.
    internal.after(() => {
      if (!isDecided) internal.fail(new Error("a middleware of io.use did not call next()"));
    });
    through(middlewares, [socket], (error) => {
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
    return socket[STATE].kept.x ? undefined : socket;
  }

  message(client, event, args, ack) {
    const socket = this.#socketOf(client);
    if (!socket || RESERVED.has(event)) return;
    keep(socket);
    const values = args();
    if (ack !== undefined && ack !== null) values.push(answerTo(ack));
    const packet = [event, ...values];
    through(socket[STATE].middlewares, [packet], (error) => {
      if (error) {
        if (!EventEmitter.call(socket, "error", [error], run)) internal.fail(error);
        return;
      }
      const [name, ...given] = packet;
      const withoutAnswer = typeof given.at(-1) === "function" && ack ? given.slice(0, -1) : given;
      for (const listener of [...socket[STATE].any]) run(() => listener.call(socket, name, ...withoutAnswer));
      EventEmitter.call(socket, name, given, run);
    });
  }

  disconnect(client, reason, rooms) {
    const socket = this.#server.find(client.namespace)?.sockets.get(client.id);
    if (!socket) return;
    // A lost io-node leaves no attributes: what this instance remembers of the client is better.
    if (reason !== "node lost") restore(socket, client);
    if (socket[STATE].kept.x) return;
    const { nsp } = socket[STATE];
    // Those that other sockets had it join are known there, and those that it has joined by its last event here.
    for (const room of rooms ?? []) socket[STATE].rooms.add(room);
    const gone = () => nsp.sockets.delete(client.id);
    internal.atEnd(gone);
    EventEmitter.call(socket, "disconnecting", [reason, undefined], run);
    const leave = () => {
      gone();
      socket[STATE].isConnected = false;
      socket[STATE].rooms = new Set();
      EventEmitter.call(socket, "disconnect", [reason, undefined], run);
    };
    leave();
  }
}

/** Runs middlewares one after the other; each goes on by calling what it is given. */
function through(middlewares, args, done) {
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

/** What a listener answers an acknowledgement with. */
function answerTo(ack) {
  let isAnswered = false;
  return (...args) => {
    if (isAnswered) return;
    isAnswered = true;
    const [json, attachments] = internal.encode(args);
    effects.ack(ack, json, attachments);
  };
}

/** A middleware did not want this client. */
function refuse(socket, error) {
  const state = socket[STATE];
  const message = error instanceof Error ? error.message : String(error);
  try {
    effects.refuse(message, error.data === undefined ? undefined : JSON.stringify(error.data));
  } catch (denied) {
    // An app without admission has let it in already: what it says from now on is not heard, and it is shown out.
    console.warn(`a client that a middleware refused (${message}) was disconnected: ${denied.message}`);
    state.kept.x = 1;
    effects.disconnect(onlyOf(state), false);
  }
}

/** As older programs make one: `require("socket.io")(server)`. */
const make = (server, options) => new Server(server, options);

module.exports = Object.assign(make, { Server, Namespace, Socket, RemoteSocket, BroadcastOperator, default: Server });
