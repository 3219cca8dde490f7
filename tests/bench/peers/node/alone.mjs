// socket.io 4 in one process that holds the connections and runs the handlers: Node without fault tolerance and scaling.
//
// Usage: node alone.mjs; logs its address to stderr. Settings: see options.mjs.

import { listen, serve } from "./options.mjs";

const { io, server } = serve();
const counters = new Map();

io.on("connection", (socket) => {
  socket.on("echo", (...args) => socket.emit("echo", ...args));
  socket.on("all", (...args) => io.emit("all", ...args));
  socket.on("room", (...args) => io.to(args[0]).emit("room", ...args));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack("ok");
  });
  socket.on("json", (order) => {
    order.count += 1;
    socket.emit("json", order);
  });
  socket.on("count", (number) => {
    const count = (counters.get(socket.id) ?? 0) + 1;
    counters.set(socket.id, count);
    socket.emit("count", count, number);
  });
});

listen(server);
