// A socket.io server with its best settings, and how it listens.

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
