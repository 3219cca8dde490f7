// Answers the messages: a worker of a consumer group on the stream that io.mjs fills, echoing to the client through the
// streams adapter. The app half of the same job as plugnode's echo, built the usual way; holds no connection of a client.
//
// node app.mjs REDIS_URL; says on stderr when it reads.

import { Redis } from "ioredis";
import { Server } from "socket.io";
import { createAdapter } from "@socket.io/redis-streams-adapter";

const BATCH = 500;

// Commands do not wait for each other's answers.
const redis = new Redis(process.argv[2]);
// A blocking read keeps its connection to itself.
const reader = redis.duplicate();
// There is no emitter for the streams adapter on its own: a server that never listens is how a worker emits.
const io = new Server({ adapter: createAdapter(redis, { readCount: BATCH, onlyPlaintext: true }) });

await redis.xgroup("CREATE", "inbox", "workers", "0", "MKSTREAM").catch((error) => {
  if (!error.message.startsWith("BUSYGROUP")) throw error;
});
console.error("reading the stream");

for (;;) {
  const streams = await reader.xreadgroup(
    "GROUP", "workers", "worker-1", "COUNT", BATCH, "BLOCK", 5000, "STREAMS", "inbox", ">",
  );
  if (!streams) continue;
  const entries = streams[0][1];
  for (const [, [, client, , event, , args, , ack]] of entries) {
    const values = JSON.parse(args);
    io.to(client).emit(event, ...values);
    if (ack) io.serverSideEmit("ack", ack, values);
  }
  // By the same connection as the emits, and so after them: what is acknowledged was sent.
  redis.xack("inbox", "workers", ...entries.map(([id]) => id)).catch((error) => {
    console.error(`the stream was not acknowledged: ${error.message}`);
  });
}
