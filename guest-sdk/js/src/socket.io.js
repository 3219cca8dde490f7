// Socket.IO's server API on plugnode: Server, Namespace, Socket and BroadcastOperator with the methods of Socket.IO 4.
//
// Each instance has its own Socket object for a client. If another instance handled the client's connection, the object is created by
// replaying the `connection` listener, muted. The state that all instances must share (`data`, properties that the program sets on
// the socket, rooms, handshake) is stored in the client's attributes, which come with each of its events.

const EventEmitter = require("events");
const internal = require("internal");
const { isObject } = require("attributes");
const { RESERVED, BroadcastOperator, RemoteSocket, audienceOfSocket, delegateBroadcasts } = require("broadcast");
const { freshHandshake } = require("handshake");
const { STATE, Socket, restore, saveOnCommit } = require("socket");

const { effects, run } = internal;

/** A method that takes a listener which is never called, and says so. */
const ignoredListener = (nameOf, remedy) =>
  function (event) {
    internal.ignore(nameOf(String(event)), remedy);
    return this;
  };

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
      on: ignoredListener((event) => `adapter.on(${JSON.stringify(event)})`, "listen to connections and disconnects of clients"),
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

/** What to do in place of options that programs rely on. */
const OPTION_REMEDIES = {
  adapter: "remove it; the nodes of plugnode share clients and rooms by themselves",
  allowEIO3: "set io-node.socket-io-2 in plugnode.toml",
  allowRequest: "refuse clients in io.use, with admission = true in the [[app]]",
  connectionStateRecovery:
    "a client that reconnects is a new one, and socket.recovered is false; keep what it needs in the key-value store, by an id in its auth",
  connectTimeout: "set io-node.connect-timeout-ms in plugnode.toml",
  cookie: "put a load balancer with sticky sessions in front of several io-nodes",
  cors: "set io-node.allowed-origins in plugnode.toml, if pages come from elsewhere",
  maxHttpBufferSize: "set io-node.max-payload in plugnode.toml",
  parser: "set io-node.parser in plugnode.toml",
  path: "set io-node.path in plugnode.toml",
  pingInterval: "set io-node.ping-interval-ms in plugnode.toml",
  pingTimeout: "set io-node.ping-timeout-ms in plugnode.toml",
  transports: "set io-node.transports in plugnode.toml",
  upgradeTimeout: "set io-node.upgrade-timeout-ms in plugnode.toml",
};

class Server extends EventEmitter {
  #namespaces = new Map();
  #parents = [];
  #unknown = new Set();

  constructor(server, options) {
    super();
    this.options = options ?? (isObject(server) && !(server instanceof EventEmitter) ? server : {}) ?? {};
    for (const name of Object.keys(this.options)) {
      if (Object.hasOwn(OPTION_REMEDIES, name)) internal.ignore(`the option ${name} of Server`, OPTION_REMEDIES[name]);
    }
    /** The namespace `/`. */
    this.sockets = this.of("/");
    const { sockets } = this;
    this.engine = {
      get clientsCount() {
        return sockets.sockets.size;
      },
      on: ignoredListener(
        (event) => `io.engine.on(${JSON.stringify(event)})`,
        "io-nodes hold the connections; their metrics and logs have what fails, and io.use sees the headers of each client",
      ),
      use() {
        internal.ignore("io.engine.use", "read socket.handshake.headers in io.use, which can refuse a client");
      },
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
  path(path) {
    if (path !== undefined) internal.ignore("io.path", OPTION_REMEDIES.path);
    return this;
  }
  serveClient() {
    return this;
  }
  adapter() {
    internal.ignore("io.adapter", OPTION_REMEDIES.adapter);
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
    // Like Socket.IO: before the middlewares, and with the acknowledgement.
    for (const listener of [...socket[STATE].any]) run(() => listener.apply(socket, packet));
    runMiddlewares(socket[STATE].middlewares, [packet], (error) => {
      if (error) {
        if (!EventEmitter.call(socket, "error", [error], run)) internal.fail(error);
        return;
      }
      const [name, ...given] = packet;
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
    const [json, attachments] = internal.encode(args);
    // Not before: arguments that JSON cannot express throw, and the listener may then answer otherwise.
    isAnswered = true;
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
