// The chat of examples/chat in JavaScript, with the classes of Socket.IO: the same events, history and page.
//
// The program keeps no state in variables: a name is a property of its socket, and the history is in the key-value store. Any instance
// can handle any event, and a release in any language can take over during a conversation.

import { context, kv } from "plugnode";
import { Server } from "plugnode/socket.io";

const LIMIT = 15;
const PREFIX = "message:";
const NAME_RULE = "a name has 1 to 32 characters";
const BODY_RULE = "a message is a text of 1 to 2000 characters";

const io = new Server();

io.on("connection", (socket) => {
  // Other instances replay this listener later, when the client may have changed its name.
  const given = nameIn(socket.handshake.auth?.name);
  if (given && !socket.name) socket.name = given;
  socket.emit("welcome", { name: nameOf(socket), release: context().release });
  socket.emit("history", history());
  socket.broadcast.emit("joined", { id: socket.id, name: nameOf(socket) });

  socket.on("message", acknowledging((text) => {
    const body = bodyIn(text);
    if (!body) return { error: BODY_RULE };
    const { id, receivedAt: at, release } = context();
    const message = { id, from: socket.id, name: nameOf(socket), body, at, release };
    addToHistory(message);
    socket.broadcast.emit("message", message);
    return { ok: message };
  }));

  socket.on("set name", acknowledging((text) => {
    const name = nameIn(text);
    if (!name) return { error: NAME_RULE };
    const was = nameOf(socket);
    if (name !== was) {
      socket.name = name;
      socket.broadcast.emit("renamed", { id: socket.id, name, was });
    }
    return { ok: name };
  }));

  socket.on("disconnect", () => socket.broadcast.emit("left", { id: socket.id, name: nameOf(socket) }));
});

/** Wraps a listener so that its return value answers the acknowledgement, which is the last argument, if any. */
const acknowledging = (listener) => (...args) => {
  const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
  ack(listener(args[0]));
};

const nameOf = ({ id, name }) => name ?? `guest ${id.slice(0, 4)}`;

// ---- The last messages. Each has its own key, so that concurrent events write different keys ----

const keys = () => kv.keys(PREFIX).sort();
const history = () => keys().slice(-LIMIT).map((key) => kv.get(key)).filter(Boolean);

function addToHistory(message) {
  kv.set(`${PREFIX}${String(message.at).padStart(15, "0")}:${message.id}`, message);
  for (const key of keys().slice(0, -LIMIT)) kv.delete(key);
}

// ---- Validation of names and messages ----

const within = (text, max) => (text !== "" && [...text].length <= max ? text : undefined);

function nameIn(given) {
  if (typeof given !== "string") return undefined;
  return within(given.split(/[\p{White_Space}\p{Cc}]+/u).filter(Boolean).join(" "), 32);
}

function bodyIn(given) {
  if (typeof given !== "string") return undefined;
  const trimmed = given.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
  return within(trimmed.replace(/[^\P{Cc}\n]/gu, ""), 2000);
}
