var express = require("express"); var boom = (cb) => cb.no.where; var app = express();
// Habits of Node programs, old and new, that tests/js/habits.mjs relies on.
var http = require("http").Server(app);
var io = require("socket.io")(http);
var util = require("util");
var EventEmitter = require("events");
var assert = require("assert");
var path = require("path");
var crypto = require("crypto");

function Counter() {
  EventEmitter.apply(this, arguments);
  this.count = 0;
}
util.inherits(Counter, EventEmitter);
Counter.prototype.add = function () {
  this.emit("added", ++this.count);
};

const settings = {};
const merge = (target, source) => {
  for (const key in source) {
    if (typeof source[key] === "object") merge((target[key] ??= {}), source[key]);
    else target[key] = source[key];
  }
};

io.use((socket, next) => {
  socket.request.session = { views: 0 };
  next();
});
io.of("/admin").on("connection", (socket) => socket.emit("welcome", socket.nsp.name));

io.on("connection", (socket) => {
  const counter = new Counter();
  counter.on("added", (count) => socket.emit("count", count));
  socket.onAny((event, ...args) => {
    if (event === "answer early") args.at(-1)("early");
    if (event === "refused") socket.emit("seen", event);
  });
  socket.use(([event], next) => next(event === "refused" ? new Error("not this") : undefined));
  socket.on("error", (error) => socket.emit("why", error.message));
  socket.on("view", (answer) => answer(++socket.request.session.views, socket.client.request === socket.request));
  socket.on("count", () => counter.add());
  socket.on("rooms", (answer) => {
    socket.join("here");
    answer(socket.adapter.rooms.get("here").size);
  });
  socket.on("paths", (answer) => answer(path.relative("/a/b", "/a/c/d"), path.parse("/a/b.tar.gz"), path.format({ dir: "/a", name: "b", ext: ".c" })));
  socket.on("sign", (answer) => {
    const key = crypto.createSecretKey("secret");
    const signed = [key, "secret"].map((one) => crypto.createHmac("sha256", one).update("abc").digest("hex"));
    assert.equal(signed[0], signed[1]);
    answer(signed[0], key.type, key instanceof crypto.KeyObject);
  });
  socket.on("assert", (answer) => {
    try {
      assert.deepStrictEqual({ a: [1] }, { a: [1] });
      assert.strictEqual(1, 2, "one is not two");
    } catch (error) {
      answer(error.name, error.message);
    }
  });
  socket.on("settings", (values, answer) => {
    merge(settings, values);
    answer();
  });
  socket.on("polluted", (answer) => answer(typeof {}.get, typeof {}.volatile));
  socket.on("damage", () => {
    Map.prototype.get = null;
    Array.prototype.push = null;
    throw new Error("damaged");
  });
  socket.on("fetch", async (answer) => {
    socket.data.seen = 1;
    socket.username = "grace";
    const [found] = await io.in(socket.id).fetchSockets();
    answer(found.data, found.username);
  });
  socket.on("bigint", (answer) => {
    try {
      answer(1n);
    } catch (error) {
      answer(error.name);
    }
  });
  socket.on("url", (answer) => {
    const { pathname, query, host } = require("url").parse("/a?b=1", true);
    answer(pathname, query.b, host);
  });
  socket.on("kick", () => socket.disconnect(true));
  socket.on("first line", boom);
  socket.on("loop", () => {
    for (;;);
  });
  socket.on("eat", () => {
    const eaten = [];
    for (;;) eaten.push(new Uint8Array(1 << 20));
  });
  socket.on("causes", () => {
    const error = new Error("outer", { cause: new Error("inner") });
    error.cause.cause = error;
    throw error;
  });
  socket.on("later", () => {
    setTimeout(() => socket.emit("late"), 10);
  });
});
http.listen(3000, () => console.log("listening"));
