// The program that tests/it/presence.rs and tests/it/webhooks.rs drive.

import { all, on, presence, sendCustom, to } from "plugnode";

on("join", (client, room) => {
  client.join(room);
  return true;
});
on("leave", (client, room) => {
  client.leave(room);
  return true;
});
on("empty", (client, room) => {
  to(room).leave(room);
  return true;
});
on("name", (client, name) => {
  client.set({ name });
  return true;
});
on("present", (client, room) => [
  presence.count(room),
  presence.members(room).map(({ id, attributes }) => [id, attributes.name ?? null]),
]);

on("order", (client, data) => {
  sendCustom("acme.order/1", data);
  sendCustom("acme.bytes/1", new Uint8Array([0, 255]));
  sendCustom("other/1");
  return true;
});

presence.on((change) => all.emit("presence", change));
