// Uses of Socket.IO's types, which compile with those of the package socket.io and with those of plugnode.

import { type BroadcastOperator, type DefaultEventsMap, type ExtendedError, type Namespace, type RemoteSocket, Server, type Socket } from "socket.io";

interface ServerToClient {
  plain: () => void;
  basic: (count: number, text: string, bytes: Uint8Array) => void;
  asked: (text: string, answer: (length: number) => void) => void;
}
interface ClientToServer {
  hello: () => void;
  echo: (text: string, answer: (got: { ok: boolean }) => void) => void;
}
interface Data {
  name: string;
  age?: number;
}
type Client = Socket<ClientToServer, ServerToClient, DefaultEventsMap, Data>;

const io = new Server<ClientToServer, ServerToClient, DefaultEventsMap, Data>({ cors: { origin: "*" }, pingInterval: 1000 });

io.use((socket, next) => {
  const error: ExtendedError = new Error("refused");
  error.data = { code: 401 };
  next(socket.data.name === "" ? error : undefined);
});
io.engine.use(() => {});

io.on("connection", async (socket: Client) => {
  socket.emit("plain");
  socket.emit("basic", 1, "2", new Uint8Array(3));
  socket.emit("asked", "text", (length) => length.toFixed());
  socket.timeout(5000).emit("asked", "text", (error, length) => [error.message, length.toFixed()]);
  io.timeout(5000).to("room").emit("asked", "text", (error, lengths) => [error.message, ...lengths.map((one) => one.toFixed())]);
  const length: number = await socket.timeout(5000).emitWithAck("asked", "text");
  const lengths: number[] = await io.in("room").timeout(5000).emitWithAck("asked", "text");
  const found: RemoteSocket<ServerToClient, Data>[] = await io.in("room").fetchSockets();
  const operator: BroadcastOperator<ServerToClient, Data> = socket.to(["a", "b"]).except("c").volatile.local;
  operator.emit("basic", length, found[0].data.name, new Uint8Array(lengths));
  socket.on("echo", (text, answer) => answer({ ok: text.length > 0 }));
  socket.on("disconnecting", (reason, description) => console.log(reason, description, [...socket.rooms]));
  socket.use(([event], next) => next(event === "x" ? new Error("no") : undefined));
  socket.onAny((event, ...args) => console.log(event, args));
  const size: number | undefined = io.of("/").adapter.rooms.get("room")?.size;
  console.log(size, socket.handshake.address, socket.handshake.auth.token, socket.conn.transport.name, socket.recovered);
  // @ts-expect-error: not such an event
  socket.emit("nothing");
  // @ts-expect-error: not such arguments
  socket.emit("basic", "1", "2", new Uint8Array(3));
});

const admin: Namespace<ClientToServer, ServerToClient, DefaultEventsMap, Data> = io.of("/admin");
admin.sockets.get("id")?.disconnect(true);
io.of(/^\/game-\d+$/).on("connection", (socket) => console.log(socket.nsp.name));

const loose = new Server();
loose.on("connection", (socket) => {
  socket.on("any", (one, two) => socket.broadcast.emit("any", one, two));
  socket.timeout(5).emit("any", 1, (error: Error, answer: number) => console.log(error, answer));
});
