// The app-node of socket.io-cluster (2011) by its own names: `makeListener(config)`, clients that send and broadcast, `no-client`.
// What is sent reaches clients as Socket.IO's event `message`.

const EventEmitter = require("events");
const internal = require("internal");

const { effects, run } = internal;

const list = (value) => (value === undefined || value === null ? [] : Array.isArray(value) ? value.map(String) : [String(value)]);
const tell = (emitter, event, ...args) => EventEmitter.call(emitter, event, args, run);

/** A message on its way to clients: made, addressed and sent. */
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
  /** `publish` by default; another type goes to the io-nodes, for the program that embeds them. */
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

/** What tells of events by their types, with the client's own words: `sessionId` and its attributes. */
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

/** The client of an event as this instance knows it. One that it has not seen is told as `no-client` first. */
function known(listener, info, isNew) {
  let client = Object.hasOwn(listener.clients, info.sessionId) ? listener.clients[info.sessionId] : undefined;
  if (!client) {
    client = new Client(listener, info.sessionId);
    listener.clients[info.sessionId] = client;
    Object.assign(client, info);
    if (!isNew) tell(listener, "no-client", client);
  }
  return Object.assign(client, info);
}

const listeners = [];
const servers = [];

/** What of a client's attributes is no name of a client's own. */
function infoOf({ id, attributes }) {
  const info = {};
  for (const [name, value] of Object.entries(JSON.parse(attributes))) {
    if (!(name in EventEmitter.prototype) && !(name in Client.prototype)) info[name] = value;
  }
  info.sessionId = id;
  return info;
}

const app = {
  connection(client) {
    const info = infoOf(client);
    for (const server of servers) tell(server, "connection", info);
    for (const listener of listeners) {
      const made = known(listener, info, true);
      tell(listener, "clientConnect", made);
      tell(listener, "connection", made);
    }
  },
  message(client, event, args, ack) {
    const info = infoOf(client);
    const values = args();
    // Events of other names than `message` came with Socket.IO 0.7; a client's words are none of ours.
    if (["connection", "disconnect", "no-client", "error"].includes(event)) return;
    if (ack !== undefined && ack !== null) {
      values.push((...answer) => {
        const [json, attachments] = internal.encode(answer);
        effects.ack(ack, json, attachments);
      });
    }
    for (const server of servers) tell(server, event, info, ...values);
    for (const listener of listeners) {
      const made = known(listener, info, false);
      if (event === "message") tell(listener, "clientMessage", made, ...values);
      tell(made, event, ...values);
    }
  },
  disconnect(client, reason) {
    const info = infoOf(client);
    for (const server of servers) tell(server, "disconnect", info, reason);
    for (const listener of listeners) {
      const gone = known(listener, info, false);
      tell(listener, "clientDisconnect", gone);
      tell(gone, "disconnect", reason);
      internal.atEnd(() => delete listener.clients[info.sessionId]);
    }
  },
  custom(kind, data, contentType, client) {
    const text = new TextDecoder().decode(data);
    const value = contentType === "application/json" ? JSON.parse(text) : text;
    const info = client ? infoOf(client) : undefined;
    for (const server of servers) tell(server, kind, info, value);
  },
};

function register(emitter, registered) {
  if (listeners.length + servers.length === 0) internal.addApp(app);
  registered.push(emitter);
  return emitter;
}

/** The config is taken, and not used: where Redis is, plugnode's own configuration says. */
function makeListener() {
  const listener = register(new Listener(), listeners);
  servers.push(listener.server);
  return listener;
}

const makeAppServer = () => register(new AppServer(), servers);

module.exports = { makeListener, makeAppServer, getClient: makeListener };
