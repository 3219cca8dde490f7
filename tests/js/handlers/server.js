// The program that `socketio-server.mjs` drives: one event for each method of a Socket.IO server.

import { createHash, createHmac } from "node:crypto";
import { EventEmitter } from "node:events";
import { Server } from "plugnode/socket.io";

const io = new Server();
const waiting = [];
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

io.use((socket, next) => {
  const { name } = socket.handshake.auth;
  if (name === "nobody") {
    const error = new Error("not you");
    error.data = { code: 7 };
    return next(error);
  }
  socket.username = name ?? "somebody";
  next();
});

io.use(async (socket, next) => {
  await sleep(5);
  socket.data.wasAwaited = true;
  next();
});

io.on("connection", async (socket) => {
  socket.on("echo", (...args) => {
    const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
    answer?.(...args);
    socket.emit("echo", ...args);
  });
  await sleep(1);
  if (socket.handshake.query.greet) socket.emit("greeting", `hello, ${socket.username}`);

  socket.on("as base64", (bytes, answer) => answer(Buffer.isBuffer(bytes), bytes.toString("base64"), Buffer.from("aGk=", "base64")));

  socket.on("digests", async (text, answer) => {
    const webs = Buffer.from(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
    const hashes = ["md5", "sha1", "sha256", "sha384", "sha512"].map((name) => createHash(name).update(text).digest("hex"));
    const keyed = createHmac("sha256", "key").update(text).digest("base64");
    const long = createHmac("sha512", "k".repeat(200)).update(text).digest("hex");
    answer(...hashes, keyed, long, webs.toString("hex"));
  });

  // ---- promises and timers

  socket.on("later", async (time, answer) => {
    await sleep(time);
    await null;
    answer("done");
  });
  socket.on("soon", (answer) => setTimeout(() => process.nextTick(() => setImmediate(() => answer("soon")))));
  socket.on("ask me", async (question, answer) => {
    answer("asking");
    const reply = await socket.emitWithAck("question", question);
    socket.emit("told", reply);
  });
  socket.on("ask by callback", () => {
    socket.timeout(5000).emit("question", "called?", (error, reply) => socket.emit("told", error ? "nothing" : reply));
  });
  socket.on("ask in vain", async () => {
    try {
      await socket.timeout(100).emitWithAck("silence");
    } catch (error) {
      socket.emit("told", error.message);
    }
  });
  socket.on("ask all", async (room) => {
    socket.emit("told", (await io.to(room).timeout(5000).emitWithAck("question", "all?")).sort());
  });

  // ---- rooms

  socket.on("join", (room, answer) => {
    socket.join(room);
    answer([...socket.rooms].filter((room) => room !== socket.id));
  });
  socket.on("leave", (room, answer) => {
    socket.leave(room);
    answer([...socket.rooms].filter((room) => room !== socket.id));
  });
  socket.on("rooms", (answer) => answer([...socket.rooms].filter((room) => room !== socket.id)));
  socket.on("to room", (room, ...args) => socket.to(room).emit("in room", ...args));
  socket.on("to all in room", (room, ...args) => io.in(room).except(`not ${room}`).emit("in room", ...args));
  socket.on("to id", (id, ...args) => io.to(id).emit("for you", ...args));
  socket.on("to others", (...args) => socket.broadcast.emit("for others", ...args));
  socket.on("who is in", async (room) => {
    const sockets = await io.in(room).fetchSockets();
    socket.emit("told", sockets.map(({ id, data }) => [id, data.note]).sort());
  });
  socket.on("bring all", (from, to) => io.in(from).socketsJoin(to));
  socket.on("throw out", (room) => io.in(room).disconnectSockets());
  socket.on("goodbye", () => socket.disconnect());

  // ---- data of a client

  socket.on("note", (note, answer) => {
    socket.data.note = note;
    socket.seen = (socket.seen ?? 0) + 1;
    answer();
  });
  socket.on("noted", (answer) =>
    answer({ data: socket.data, seen: socket.seen, username: socket.username, auth: socket.handshake.auth.name }),
  );

  // ---- events

  socket.once("only once", () => socket.emit("told", "once"));
  socket.onAny((event) => {
    if (event === "for any") socket.emit("told", "any");
  });
  socket.use(([event, ...args], next) => {
    if (event === "forbidden") return next(new Error(`no ${args[0]}`));
    next();
  });
  socket.on("error", (error) => socket.emit("told", error.message));
  socket.on("disconnecting", (reason) => {
    const rooms = [...socket.rooms].filter((room) => room !== socket.id).sort();
    socket.to("watchers").emit("leaves", rooms, reason);
  });
  socket.on("disconnect", (reason) => io.to("watchers").emit("has left", socket.username, reason, socket.rooms.size));

  // ---- failures

  socket.on("throw", () => {
    socket.emit("told", "what must not be told");
    socket.data.note = "what must not be kept";
    throw new TypeError("thrown on purpose");
  });
  socket.on("reject", async () => {
    await null;
    throw new Error("rejected on purpose");
  });
  socket.on("reject unseen", () => {
    Promise.reject(new Error("rejected with nobody there"));
  });
  socket.on("loop", () => {
    for (;;);
  });
  socket.on("recurse", () => {
    const deeper = (n) => deeper(n + 1) + 1;
    deeper(0);
  });
  socket.on("eat", () => {
    const eaten = [];
    for (;;) eaten.push(new Uint8Array(1 << 20).fill(1));
  });

  socket.on("pollute", (answer) => {
    Object.prototype.all = true;
    socket.emit("for one");
    io.to(socket.id).emit("for one");
    delete Object.prototype.all;
    answer();
  });
  socket.on("set timers", (answer) => {
    try {
      for (let set = 0; set < 5000; set++) waiting.push(setTimeout(() => {}, 1e7));
      answer(null);
    } catch (error) {
      waiting.splice(0).forEach(clearTimeout);
      answer(error.name);
    }
  });

  // ---- globals

  socket.on("globals", async (answer) => {
    const url = new URL("../b?c=d#e", "https://example.com:443/a/x/");
    const controller = new AbortController();
    controller.abort();
    const emitter = new EventEmitter();
    const heard = [];
    emitter.once("x", (value) => heard.push(value));
    emitter.emit("x", 1);
    emitter.emit("x", 2);
    answer({
      text: new TextDecoder().decode(new TextEncoder().encode("grüße 🦀\ud800")),
      base64: atob(btoa("plug\u00ffnode")),
      href: url.href,
      param: url.searchParams.get("c"),
      aborted: controller.signal.aborted,
      clone: structuredClone({ a: [new Date(0)], b: new Map([[1, 2]]) }).a[0].getTime(),
      uuid: /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/.test(crypto.randomUUID()),
      heard,
    });
  });
});

io.of("/second").on("connection", (socket) => {
  socket.on("where", (answer) => answer(socket.nsp.name));
  socket.on("tell", (text) => io.of("/second").emit("told", text));
});
