// A chat with names, presence and typing indicators. Written for Socket.IO on Node; only the import differs. The lines about pages
// and ports have no effect: plugnode serves pages and accepts connections itself.

const express = require("express");
const path = require("path");
const { createServer } = require("http");
const { Server } = require("plugnode/socket.io");

const app = express();
const server = createServer(app);
const io = new Server(server);
const port = process.env.PORT || 3000;

app.use(express.static(path.join(__dirname, "public")));
server.listen(port, () => console.log("the chat is open"));

let people = 0;

io.on("connection", (socket) => {
  let isIn = false;

  socket.on("enter", (name) => {
    if (isIn || typeof name !== "string" || name === "") return;
    isIn = true;
    people += 1;
    socket.username = name.slice(0, 20);
    socket.emit("entered", { people });
    socket.broadcast.emit("came", { name: socket.username, people });
  });

  socket.on("say", (text) => {
    if (!isIn) return;
    socket.broadcast.emit("said", { name: socket.username, text: String(text) });
  });

  socket.on("typing", () => {
    if (isIn) socket.broadcast.emit("typing", { name: socket.username });
  });

  socket.on("typing stopped", () => {
    if (isIn) socket.broadcast.emit("typing stopped", { name: socket.username });
  });

  socket.on("disconnect", () => {
    if (!isIn) return;
    people -= 1;
    socket.broadcast.emit("left", { name: socket.username, people });
  });
});
