// A socket.io server with its best settings.
//
// - Websocket only, like the load; no client files. Compression is off, which is the default.
// - bufferutil is installed, which ws uses for unmasking: a few percent less CPU in io.mjs, no difference in alone.mjs.
// - NODE_ENV=production.
// Tried without success: a larger young generation (--max-semi-space-size=64), a few percent more CPU for no more messages.
// Not available: eiows needs a newer Node than is usual, and uWebSockets.js is not on npm.

import { createServer } from "node:http";
import { Server } from "socket.io";

export function serve(options = {}) {
  const server = createServer();
  const io = new Server(server, { transports: ["websocket"], serveClient: false, ...options });
  // Frees the connection's request, as the manual advises to save memory.
  io.engine.on("connection", (connection) => {
    connection.request = null;
  });
  return { io, server };
}

export function listen(server) {
  // The same length of the accept queue as in plugnode.
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
    console.error(`listening on http://127.0.0.1:${server.address().port}`);
  });
}
