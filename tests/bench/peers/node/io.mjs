// Holds the connections: socket.io 4, whose clients' messages go into a Redis stream and whose answers come back by the
// streams adapter. The io half of the same job as plugnode's, built the usual way; knows nothing of what app.mjs does.
//
// node io.mjs REDIS_URL; says on stderr where it listens.

import { Redis } from "ioredis";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { listen, serve } from "./options.mjs";
import { ADAPTER, INBOX, STREAM_LENGTH } from "./streams.mjs";

// Commands do not wait for each other's answers. Automatic pipelining was tried, here and in app.mjs, in four runs: it spares
// Redis a third, and in three of them cost Node more than that and halved the messages a second.
const redis = new Redis(process.argv[2]);
const { io, server } = serve({ adapter: createAdapter(redis, ADAPTER) });

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
      .xadd(INBOX, "MAXLEN", "~", STREAM_LENGTH, "*", "client", socket.id, "event", event, "args", JSON.stringify(args), "ack", ack)
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

listen(server);
