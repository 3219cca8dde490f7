// The program that tests/it/api.rs drives: answers custom events, beside a Socket.IO server.

import { acknowledge, kv, onCustom, schedule } from "plugnode";
import { Server } from "plugnode/socket.io";

const io = new Server();
io.on("connection", (socket) => socket.on("ready", (answer) => answer()));

onCustom("faulty.count/1", (data, { ackId }) => {
  const count = (kv.get("customs") ?? 0) + 1;
  kv.set("customs", count);
  io.emit("counted", count);
  acknowledge(ackId, count, data);
});
onCustom("faulty.quiet/1", () => {});
onCustom("faulty.late/1", (_, { ackId }) => schedule.app.after("late", 50, "faulty.late/1", ackId));
schedule.on("faulty.late/1", (ackId) => acknowledge(ackId, "late"));
onCustom("faulty.reject/1", () => {
  throw new Error("asked to reject");
});
onCustom("test.echo/1", async (data, { client }) => {
  await new Promise((resolve) => setTimeout(resolve, 1));
  return client === undefined ? [data] : undefined;
});
