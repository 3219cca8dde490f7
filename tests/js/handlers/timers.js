// The program that tests/it/timers.rs drives.

import { all, kv, on, schedule } from "plugnode";

const kind = "test.due/1";

on("timer-after", (client, owner, key, ms, data) => {
  schedule[owner].after(key, ms, kind, data);
  return true;
});
on("timer-every", (client, owner, key, ms, data) => {
  schedule[owner].every(key, ms, kind, data);
  return true;
});
on("timer-cancel", (client, owner, key) => {
  schedule[owner].cancel(key);
  return true;
});
on("get", (client, key) => kv.get(key) ?? null);

schedule.on(kind, (data, { key, missed, client }) => {
  kv.add(`due:${key}`);
  (client ?? all).emit("due", key, data, missed);
});
