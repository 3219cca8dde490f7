// The program that tests/it/presence.rs drives.

import { all, on, presence, to } from "plugnode";

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

presence.on((change) => all.emit("presence", change));
