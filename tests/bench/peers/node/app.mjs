// Handles messages: a worker in a consumer group of the stream that io.mjs fills. It sends to clients through the streams
// adapter, and holds no client connections. The counterpart of plugnode's app-node, built the usual way.
//
// Usage: node app.mjs REDIS_URL; logs to stderr when it starts reading.

import { Redis } from "ioredis";
import { Server } from "socket.io";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { ADAPTER, BATCH, INBOX } from "./streams.mjs";
import { handle } from "./events.mjs";

// Commands do not wait for earlier replies.
const redis = new Redis(process.argv[2]);
// A blocking read needs its own connection.
const reader = redis.duplicate();
// The streams adapter has no standalone emitter: a worker emits through a server that never listens, which also reads back what it
// wrote. Tried: writing the adapter's entries directly, which saves a quarter of this process's CPU, a tenth of all three.
const io = new Server({ adapter: createAdapter(redis, ADAPTER) });
const worker = `worker-${process.pid}`;

// One command instead of a read and a write.
const count = (client) => redis.hincrby("counters", client, 1);

await redis.xgroup("CREATE", INBOX, "workers", "0", "MKSTREAM").catch((error) => {
  if (!error.message.startsWith("BUSYGROUP")) throw error;
});
console.error("reading the stream");

for (;;) {
  const streams = await reader.xreadgroup(
    "GROUP", "workers", worker, "COUNT", BATCH, "BLOCK", 5000, "STREAMS", INBOX, ">",
  );
  if (!streams) continue;
  const entries = streams[0][1];
  const pending = [];
  for (const [, [, client, , event, , args, , ack]] of entries) {
    const handled = handle(io, count, client, event, JSON.parse(args), ack && ((...values) => {
      io.serverSideEmit("ack", ack, values);
    }));
    if (handled) pending.push(handled);
  }
  // The next batch is read without waiting for these.
  Promise.all(pending)
    // On the same connection as the emits, so an entry is acknowledged after its messages are sent.
    .then(() => redis.xack(INBOX, "workers", ...entries.map(([id]) => id)))
    .catch((error) => console.error(`cannot acknowledge entries: ${error.message}`));
}
