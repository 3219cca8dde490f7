// Holds the connections: socket.io 4. Messages of clients go into a Redis stream; replies come back by the streams adapter. The
// counterpart of plugnode's io-node, built the usual way; knows nothing of the handlers in app.mjs.
//
// Usage: node io.mjs REDIS_URL; logs its address to stderr.

import { Redis } from "ioredis";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { listen, serve } from "./options.mjs";
import { ADAPTER, INBOX, STREAM_LENGTH } from "./streams.mjs";

// Commands do not wait for earlier replies. Tried: automatic pipelining, here and in app.mjs, in four runs. It saves a third of
// Redis's CPU, but in three of the runs it cost Node more than that, and halved the messages per second.
const redis = new Redis(process.argv[2]);
const { io, server } = serve({ adapter: createAdapter(redis, ADAPTER) });

// Pending acknowledgements by id. Workers send them to all io processes; each ignores the ids of others.
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
        console.error(`cannot queue a message: ${error.message}`);
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
