// Answers the messages: a worker of a consumer group on the stream that io.mjs fills, speaking to clients through the
// streams adapter. The app half of the same job as plugnode's, built the usual way; holds no connection of a client.
//
// node app.mjs REDIS_URL; says on stderr when it reads.

import { Redis } from "ioredis";
import { Server } from "socket.io";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { ADAPTER, BATCH, INBOX } from "./streams.mjs";
import { answer } from "./words.mjs";

// Commands do not wait for each other's answers.
const redis = new Redis(process.argv[2]);
// A blocking read keeps its connection to itself.
const reader = redis.duplicate();
// There is no emitter for the streams adapter on its own: a server that never listens is how a worker emits. It reads back
// what it wrote; writing the adapter's entries by hand was tried, and spares a quarter of this process, a tenth of all three.
const io = new Server({ adapter: createAdapter(redis, ADAPTER) });
const worker = `worker-${process.pid}`;

// By one command, where reading and writing would be two.
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
  const underWay = [];
  for (const [, [, client, , event, , args, , ack]] of entries) {
    const answered = answer(io, count, client, event, JSON.parse(args), ack && ((...values) => {
      io.serverSideEmit("ack", ack, values);
    }));
    if (answered) underWay.push(answered);
  }
  // None of them is waited for before the next batch is read.
  Promise.all(underWay)
    // By the same connection as the emits, and so after them: what is acknowledged was sent.
    .then(() => redis.xack(INBOX, "workers", ...entries.map(([id]) => id)))
    .catch((error) => console.error(`the stream was not acknowledged: ${error.message}`));
}
