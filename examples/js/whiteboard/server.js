// A whiteboard for everybody: what one draws, all others see.

import { Server } from "plugnode/socket.io";

const io = new Server(process.env.PORT || 3000);

io.on("connection", (socket) => {
  socket.on("drawing", (line) => socket.broadcast.emit("drawing", line));
});
