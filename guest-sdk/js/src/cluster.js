// The app-node API of socket.io-cluster (2011): `makeListener(config)`, clients that send and broadcast, `no-client`. Clients receive
// data as the Socket.IO event `message`.

const EventEmitter = require("events");
const internal = require("internal");

const { effects, run } = internal;

const list = (value) => (value === undefined || value === null ? [] : Array.isArray(value) ? value.map(String) : [String(value)]);
const notify = (emitter, event, ...args) => EventEmitter.call(emitter, event, args, run);

/** A message builder: create a message, address it, send it. */
class Message {
  #to = { __proto__: null, all: false, clients: [], channels: [], exceptClients: [] };
  constructor(data) {
    this.data = data;
    this.type = "publish";
  }
  setData(data) {
    this.data = data;
    return this;
  }
  /** The default is `publish`. A message of any other type is sent to the program that embeds the io-nodes. */
  setType(type) {
    this.type = String(type);
    return this;
  }
  addRecipient(type, id) {
    if (type === "client") this.#to.clients.push(String(id));
    else if (type === "channel") this.#to.channels.push(String(id));
    else this.#to.all = true;
    return this;
  }
  forClient(id) {
    return this.addRecipient("client", id);
  }
  forChannel(id) {
    return this.addRecipient("channel", id);
  }
  forAll() {
    return this.addRecipient("all");
  }
  exceptClient(id) {
    this.#to.exceptClients.push(String(id));
    return this;
  }
  send() {
    const to = this.#to;
    switch (this.type) {
      case "publish": {
        const [json, attachments] = internal.encode([this.data]);
        return effects.publish(to, "message", json, 0, attachments);
      }
      case "subscribe-to-channel":
        return effects.subscribe(to, [String(this.data.channel)]);
      case "unsubscribe-from-channel":
        return effects.unsubscribe(to, [String(this.data.channel)]);
      default: {
        const recipients = [
          ...to.clients.map((id) => ({ type: "client", id })),
          ...to.channels.map((id) => ({ type: "channel", id })),
          ...(to.all ? [{ type: "all" }] : []),
        ];
        effects.custom(undefined, this.type, new TextEncoder().encode(JSON.stringify({ recipients, data: this.data })));
      }
    }
  }
}

class Client extends EventEmitter {
  #listener;
  constructor(listener, sessionId) {
    super();
    this.#listener = listener;
    this.sessionId = sessionId;
  }
  send(data) {
    this.#listener.broadcastOnly(data, this.sessionId);
    return this;
  }
  broadcast(data) {
    this.#listener.broadcast(data, this.sessionId);
    return this;
  }
  broadcastToChannel(channel, data) {
    this.#listener.broadcastToChannel(channel, data, this.sessionId);
    return this;
  }
  subscribeToChannel(channel) {
    new Message({ channel }).setType("subscribe-to-channel").forClient(this.sessionId).send();
    return this;
  }
  unsubscribeFromChannel(channel) {
    new Message({ channel }).setType("unsubscribe-from-channel").forClient(this.sessionId).send();
    return this;
  }
}

/** Emits each event under its type, with `sessionId` and the attributes of its client. */
class AppServer extends EventEmitter {
  createMessage(data) {
    return new Message(data);
  }
}

class Listener extends EventEmitter {
  constructor() {
    super();
    this.server = new AppServer();
    this.clients = {};
  }
  broadcast(data, except) {
    const message = new Message(data).forAll();
    for (const id of list(except)) message.exceptClient(id);
    message.send();
    return this;
  }
  broadcastExcept(data, except) {
    return this.broadcast(data, except);
  }
  broadcastOnly(data, only) {
    const message = new Message(data);
    for (const id of list(only)) message.forClient(id);
    message.send();
    return this;
  }
  broadcastToChannel(channel, data, except) {
    const message = new Message(data).forChannel(channel);
    for (const id of list(except)) message.exceptClient(id);
    message.send();
    return this;
  }
}

/** The Client object of an event. If this instance does not know the client, creates it and emits `no-client` first. */
function clientFor(listener, info, isNew) {
  let client = Object.hasOwn(listener.clients, info.sessionId) ? listener.clients[info.sessionId] : undefined;
  if (!client) {
    client = new Client(listener, info.sessionId);
    listener.clients[info.sessionId] = client;
    Object.assign(client, info);
    if (!isNew) notify(listener, "no-client", client);
  }
  return Object.assign(client, info);
}

const listeners = [];
const servers = [];

/** The attributes of a client that do not collide with methods of Client, and its session id. */
function infoOf({ id, attributes }) {
  const info = {};
  for (const [name, value] of Object.entries(JSON.parse(attributes))) {
    if (!(name in EventEmitter.prototype) && !(name in Client.prototype)) info[name] = value;
  }
  info.sessionId = id;
  return info;
}

const api = {
  connection(client) {
    const info = infoOf(client);
    for (const server of servers) notify(server, "connection", info);
    for (const listener of listeners) {
      const client = clientFor(listener, info, true);
      notify(listener, "clientConnect", client);
      notify(listener, "connection", client);
    }
  },
  message(client, event, args, ack) {
    const info = infoOf(client);
    const values = args();
    // A client cannot emit events with the names of socket.io-cluster itself.
    if (["connection", "disconnect", "no-client", "error"].includes(event)) return;
    if (ack !== undefined && ack !== null) {
      values.push((...answer) => {
        const [json, attachments] = internal.encode(answer);
        effects.ack(ack, json, attachments);
      });
    }
    for (const server of servers) notify(server, event, info, ...values);
    for (const listener of listeners) {
      const client = clientFor(listener, info, false);
      if (event === "message") notify(listener, "clientMessage", client, ...values);
      notify(client, event, ...values);
    }
  },
  disconnect(client, reason) {
    const info = infoOf(client);
    for (const server of servers) notify(server, "disconnect", info, reason);
    for (const listener of listeners) {
      const gone = clientFor(listener, info, false);
      notify(listener, "clientDisconnect", gone);
      notify(gone, "disconnect", reason);
      internal.onCommit(() => delete listener.clients[info.sessionId]);
    }
  },
  custom(kind, data, contentType, client) {
    const text = new TextDecoder().decode(data);
    const value = contentType === "application/json" ? JSON.parse(text) : text;
    const info = client ? infoOf(client) : undefined;
    for (const server of servers) notify(server, kind, info, value);
  },
};

function register(emitter, registered) {
  if (listeners.length + servers.length === 0) internal.addApi(api);
  registered.push(emitter);
  return emitter;
}

/** Takes no config: plugnode's own configuration has the address of Redis. */
function makeListener() {
  const listener = register(new Listener(), listeners);
  servers.push(listener.server);
  return listener;
}

const makeAppServer = () => register(new AppServer(), servers);

module.exports = { makeListener, makeAppServer, getClient: makeListener };
