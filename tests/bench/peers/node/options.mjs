// A socket.io server with its best settings, and how it listens.
//
// - Websocket only, as the load speaks it, and no client to serve. Compression is off by default, and stays so.
// - bufferutil is installed, which ws then uses to unmask: a few hundredths less CPU in io.mjs, nothing to see in alone.mjs.
// - NODE_ENV=production.
// Tried and left: a larger young generation (--max-semi-space-size=64), a few hundredths more CPU for no more messages.
// Not to be had: eiows wants a newer Node than is usual, and uWebSockets.js is not on npm.

import { createServer } from "node:http";
import { Server } from "socket.io";

export function serve(options = {}) {
  const server = createServer();
  const io = new Server(server, { transports: ["websocket"], serveClient: false, ...options });
  // The request of a connection is not needed any more, and would be kept: advice of the manual, for memory.
  io.engine.on("connection", (connection) => {
    connection.request = null;
  });
  return { io, server };
}

export function listen(server) {
  // Connections that the kernel may hold until they are accepted, as many as plugnode's.
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
    console.error(`listening on http://127.0.0.1:${server.address().port}`);
  });
}
