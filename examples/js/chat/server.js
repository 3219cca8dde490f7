// The chat of examples/chat in JavaScript, with Socket.IO's own classes: the same events, the same history, the same page.
//
// Nothing is kept in variables. A name is a property of its socket, and the history is in the key-value store, so that any instance
// can take any event, and a release in any language takes over in the middle of a conversation.

import { context, kv } from "plugnode";
import { Server } from "plugnode/socket.io";

const KEPT = 15;
const PREFIX = "message:";
const NAME_RULE = "a name has 1 to 32 characters";
const BODY_RULE = "a message is a text of 1 to 2000 characters";

const io = new Server();

io.on("connection", (socket) => {
  // An instance that has not seen this connection runs this again, when the client may have another name by now.
  const given = nameIn(socket.handshake.auth?.name);
  if (given && !socket.name) socket.name = given;
  socket.emit("welcome", { name: nameOf(socket), release: context().release });
  socket.emit("history", history());
  socket.broadcast.emit("joined", { id: socket.id, name: nameOf(socket) });

  socket.on("message", answering((text) => {
    const body = bodyIn(text);
    if (!body) return { error: BODY_RULE };
    const { id, receivedAt: at, release } = context();
    const message = { id, from: socket.id, name: nameOf(socket), body, at, release };
    remember(message);
    socket.broadcast.emit("message", message);
    return { ok: message };
  }));

  socket.on("set name", answering((text) => {
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

/** A listener that answers the acknowledgement, which comes behind whatever arguments there are. */
const answering = (listener) => (...args) => {
  const answer = typeof args.at(-1) === "function" ? args.pop() : () => {};
  answer(listener(args[0]));
};

const nameOf = ({ id, name }) => name ?? `guest ${id.slice(0, 4)}`;

// ---- The last messages, a key for each: instances that add at once never write the same one ----

const keys = () => kv.keys(PREFIX).sort();
const history = () => keys().slice(-KEPT).map((key) => kv.get(key)).filter(Boolean);

function remember(message) {
  kv.set(`${PREFIX}${String(message.at).padStart(15, "0")}:${message.id}`, message);
  for (const key of keys().slice(0, -KEPT)) kv.delete(key);
}

// ---- What may be said, and who may be called what ----

const within = (text, most) => (text !== "" && [...text].length <= most ? text : undefined);

function nameIn(given) {
  if (typeof given !== "string") return undefined;
  return within(given.split(/[\p{White_Space}\p{Cc}]+/u).filter(Boolean).join(" "), 32);
}

function bodyIn(given) {
  if (typeof given !== "string") return undefined;
  const trimmed = given.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
  return within(trimmed.replace(/[^\P{Cc}\n]/gu, ""), 2000);
}
