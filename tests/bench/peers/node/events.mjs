// Handles the events of the benchmark like examples/benchmark, in idiomatic JavaScript. `io` is a socket.io Server with an adapter;
// `count` increments the counter of a client.

// Handles one message. `ack` is a function or undefined. Returns a promise if the handling is asynchronous.
export function handle(io, count, client, event, args, ack) {
  switch (event) {
    case "echo":
      io.to(client).emit("echo", ...args);
      break;
    case "all":
      io.emit("all", ...args);
      break;
    case "room":
      io.to(args[0]).emit("room", ...args);
      break;
    case "join":
      io.in(client).socketsJoin(args[0]);
      ack?.("ok");
      break;
    case "json": {
      const [order] = args;
      order.count += 1;
      io.to(client).emit("json", order);
      break;
    }
    case "count":
      return count(client).then((value) => void io.to(client).emit("count", value, args[0]));
  }
}
