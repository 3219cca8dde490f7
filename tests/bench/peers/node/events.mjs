// The words of the benchmark, for whoever can address clients: a socket.io Server with a network of its own or with an adapter.
//
// The same as examples/benchmark, in what is usual here. `count` is given: how a client's counter is kept is another matter
// in one process and in several.

// Answers one message; `ack` is a function or nothing. A promise when it takes time.
export function answer(io, count, client, event, args, ack) {
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
