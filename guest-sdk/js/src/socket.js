// Socket of Socket.IO's server: a client, and its state in the client's attributes.

const EventEmitter = require("events");
const internal = require("internal");
const { OWN_KEY, canonical, jsonOf, patchOf } = require("attributes");
const {
  DEFAULT_TIMEOUT_MS,
  BroadcastOperator,
  asList,
  audienceOfSocket,
  checkName,
  promiseOf,
  timeoutError,
} = require("broadcast");
const { handshakeOf } = require("handshake");

const { effects, host } = internal;

/** The key of a socket's internal state, which must not collide with properties of the program. */
const STATE = Symbol("state");

/** `on` of `socket.conn`. */
function ignoredListener(event) {
  internal.ignore(`socket.conn.on(${JSON.stringify(String(event))})`, "io-nodes hold the connections; listen to disconnect of the socket");
  return this;
}

class Socket extends EventEmitter {
  constructor(nsp, client) {
    super();
    Object.defineProperty(this, STATE, {
      __proto__: null,
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
        // No prototype: a property on Object.prototype must not be taken for a flag.
        flags: { __proto__: null },
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
  get adapter() {
    return this.nsp.adapter;
  }
  get client() {
    return (this[STATE].client ??= { id: this.id, request: this.request, conn: this.conn });
  }
  /** The same object each time, because middlewares add properties such as `session`. These stay in the instance. */
  get request() {
    const { handshake } = this;
    return (this[STATE].request ??= {
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
    });
  }
  get conn() {
    const { handshake } = this;
    return (this[STATE].conn ??= {
      id: this.id,
      transport: { name: this[STATE].transport ?? "websocket" },
      get remoteAddress() {
        return handshake.address;
      },
      on: ignoredListener,
      once: ignoredListener,
      close: () => void this.disconnect(true),
    });
  }

  // -- Emitting to this client --

  emit(event, ...args) {
    event = checkName(event);
    const state = this[STATE];
    const { volatile, timeout } = state.flags;
    state.flags = { __proto__: null };
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
    this[STATE].flags = { __proto__: null };
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
  // So that fetchSockets returns the data as it is now.
  internal.beforeQuery(() => save(socket));
  internal.onFailure(() => {
    // The attributes of the next event are restored even if their text is the same.
    const state = socket[STATE];
    state.text = undefined;
  });
}

module.exports = { STATE, Socket, restore, saveOnCommit };
