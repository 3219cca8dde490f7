// Emits events to the Socket.IO clients of plugnode, through its server API. The methods are those of `@socket.io/redis-emitter`; each
// returns a promise for the answer.

"use strict";

const { EmitterError } = require("./error");
const { Http } = require("./http");
const { Lanes } = require("./lanes");
const { encode, hasBytes } = require("./msgpack");

/** The clients that an answer may describe. */
const MAX_FOUND = 10_000;
const ALL = { rooms: [], clients: [], exceptRooms: [], exceptClients: [], isVolatile: false };

const list = (names) => names.flat().map(String);
const namespaceOf = (name) => (String(name).startsWith("/") ? String(name) : `/${name}`);

/** Clients of a namespace, to emit to. */
class Broadcast {
  #lanes;
  #namespace;
  #to;

  constructor(lanes, namespace, to = ALL) {
    this.#lanes = lanes;
    this.#namespace = namespace;
    this.#to = to;
  }
  #with(change) {
    return new Broadcast(this.#lanes, this.#namespace, { ...this.#to, ...change });
  }
  to(...rooms) {
    const names = list(rooms);
    const { rooms: before, clients } = this.#to;
    // As in Node, a client's id is also the name of a room.
    return this.#with({ rooms: [...before, ...names], clients: [...clients, ...names] });
  }
  in(...rooms) {
    return this.to(...rooms);
  }
  client(id) {
    return this.#with({ clients: [...this.#to.clients, String(id)] });
  }
  except(...rooms) {
    const names = list(rooms);
    const { exceptRooms, exceptClients } = this.#to;
    return this.#with({ exceptRooms: [...exceptRooms, ...names], exceptClients: [...exceptClients, ...names] });
  }
  get volatile() {
    return this.#with({ isVolatile: true });
  }

  async emit(event, ...args) {
    const fields = { event: String(event), args, ...(this.#to.isVolatile ? { volatile: true } : {}) };
    return doneOf(await this.#call("publish", fields));
  }
  async socketsJoin(...rooms) {
    return doneOf(await this.#call("join", { channels: list(rooms) }));
  }
  async socketsLeave(...rooms) {
    return doneOf(await this.#call("leave", { channels: list(rooms) }));
  }
  async disconnectSockets(close = false) {
    return doneOf(await this.#call("disconnect", { close: Boolean(close) }));
  }
  async find({ most = 1_000, timeout = 2_000 } = {}) {
    const found = await this.#call("find", { most, "timeout-ms": timeout }, { isSingle: true, wait: timeout });
    const { count, silent = [] } = found;
    return { count, silent, sockets: found.clients.map((client) => new RemoteSocket(this.#lanes, this.#namespace, client)) };
  }
  async fetchSockets({ timeout = 2_000 } = {}) {
    const { count, silent, sockets } = await this.find({ most: MAX_FOUND, timeout });
    if (silent.length > 0) throw new EmitterError(`io-nodes ${silent.join(", ")} did not answer in time: fetch again, or use find`);
    if (count > sockets.length) throw new EmitterError(`${count} clients are more than ${MAX_FOUND}: select fewer, or use find`);
    return sockets;
  }

  #call(operation, fields, options = {}) {
    const { rooms, clients, exceptRooms, exceptClients } = this.#to;
    const isNarrowed = rooms.length + clients.length > 0;
    const body = {
      namespace: this.#namespace,
      ...(isNarrowed ? { to: rooms, clients } : { all: true }),
      except: { to: exceptRooms, clients: exceptClients },
      ...fields,
    };
    const lane = rooms.length === 0 && clients.length === 1 ? `client ${clients[0]}` : `${this.#namespace} ${rooms[0] ?? ""}`;
    return this.#lanes.add(lane, { operation, ...encoded(body), ...options });
  }
}

/** A client that was found. */
class RemoteSocket {
  #broadcast;

  constructor(lanes, namespace, { id, attributes, channels, "io-node": ioNode }) {
    this.#broadcast = new Broadcast(lanes, namespace).client(id);
    this.id = id;
    this.attributes = attributes;
    this.rooms = new Set([id, ...channels]);
    this.ioNode = ioNode;
  }
  emit(event, ...args) {
    return this.#broadcast.emit(event, ...args);
  }
  join(...rooms) {
    return this.#broadcast.socketsJoin(...rooms);
  }
  leave(...rooms) {
    return this.#broadcast.socketsLeave(...rooms);
  }
  disconnect(close = false) {
    return this.#broadcast.disconnectSockets(close);
  }
}

/** All clients of a namespace, and the way to the others. */
class Emitter extends Broadcast {
  #lanes;
  #lastOwn = 0;

  constructor(options) {
    const lanes = options instanceof Lanes ? options : new Lanes(new Http(options));
    super(lanes, "/");
    this.#lanes = lanes;
  }
  of(namespace) {
    return new Broadcast(this.#lanes, namespaceOf(namespace));
  }
  async presence(namespace, room) {
    // A page may repeat what an earlier one had.
    const members = new Map();
    let cursor;
    do {
      const body = { namespace: namespaceOf(namespace), channel: String(room), cursor };
      const page = await this.#lanes.add(this.#ownLane(), { operation: "presence", ...encoded(body), isSingle: true });
      for (const { id, "since-ms": since, attributes } of page.members) members.set(id, { id, since: new Date(since), attributes });
      cursor = page.next ?? undefined;
    } while (cursor !== undefined);
    return [...members.values()];
  }
  async event(namespace, kind, data = null, { wait, timeout = 10_000, order, idempotencyKey } = {}) {
    const body = { namespace: namespaceOf(namespace), kind: String(kind), data, "timeout-ms": timeout };
    if (wait !== undefined) body.wait = wait;
    if (order !== undefined) body.order = String(order);
    // Events without an order do not wait for each other.
    const lane = order === undefined ? this.#ownLane() : `event ${body.namespace} ${order}`;
    const call = { operation: "event", ...encoded(body), isSingle: true, wait: timeout, idempotencyKey };
    const answer = await this.#lanes.add(lane, call);
    const { args, attachments } = answer;
    return { ...doneOf(answer), ...(args === undefined ? {} : { args: attachments ? restored(args, attachments) : args }) };
  }
  /** The lane of a call that waits for no other. */
  #ownLane() {
    return `own ${++this.#lastOwn}`;
  }
}

/** A body, in JSON if that can hold it. */
function encoded(body) {
  return hasBytes(body.args ?? body.data)
    ? { type: "application/msgpack", body: encode(body) }
    : { type: "application/json", body: JSON.stringify(body) };
}

const doneOf = ({ event, repeated = false }) => ({ event, repeated });

/** Puts the binary values of an answer in their places. */
function restored(value, attachments) {
  if (value === null || typeof value !== "object") return value;
  if (value._placeholder === true && attachments[value.num] !== undefined) return Buffer.from(attachments[value.num], "base64");
  if (Array.isArray(value)) return value.map((item) => restored(item, attachments));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, restored(item, attachments)]));
}

module.exports = { Broadcast, Emitter, EmitterError, RemoteSocket };
