// Holds the connections: socket.io 4, whose clients' messages go into a Redis stream and whose answers come back by the
// streams adapter. The io half of the same job as plugnode's echo, built the usual way; knows nothing of what app.mjs does.
//
// node io.mjs REDIS_URL; says on stderr where it listens.

import { createServer } from "node:http";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { createAdapter } from "@socket.io/redis-streams-adapter";

// Commands do not wait for each other's answers. Automatic pipelining was tried: it spares Redis a third and costs Node more.
const redis = new Redis(process.argv[2]);
const server = createServer();
// Batches beyond the default of 100 and plain JSON are cheaper here; nothing binary is sent.
const adapter = createAdapter(redis, { readCount: 500, onlyPlaintext: true });
const io = new Server(server, { transports: ["websocket"], serveClient: false, adapter });

// Acknowledgements that clients wait for. The worker answers by number, to all io processes; a foreign number is not here.
const waiting = new Map();
const own = crypto.randomUUID();
let last = 0;

io.on("connection", (socket) => {
  socket.onAny((event, ...args) => {
    let ack = "";
    if (typeof args.at(-1) === "function") {
      ack = `${own}:${++last}`;
      waiting.set(ack, args.pop());
    }
    redis
      .xadd("inbox", "MAXLEN", "~", 100_000, "*", "client", socket.id, "event", event, "args", JSON.stringify(args), "ack", ack)
      .catch((error) => {
        console.error(`a message was not taken: ${error.message}`);
        waiting.delete(ack);
        socket.disconnect(true);
      });
  });
});

io.on("ack", (ack, args) => {
  waiting.get(ack)?.(...args);
  waiting.delete(ack);
});

server.listen(0, "127.0.0.1", () => console.error(`listening on http://127.0.0.1:${server.address().port}`));
