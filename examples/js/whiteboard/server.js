// A shared whiteboard: forwards each client's lines to all others.

import { Server } from "plugnode/socket.io";

const io = new Server(process.env.PORT || 3000);

io.on("connection", (socket) => {
  socket.on("drawing", (line) => socket.broadcast.emit("drawing", line));
});
