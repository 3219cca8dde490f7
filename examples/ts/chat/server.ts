// The chat of examples/chat in TypeScript, by plain listeners: the same events, the same history, the same page.
//
// Nothing is kept in variables. Names are attributes of the clients and the history is in the key-value store, so that any instance
// can take any event, and a release in any language takes over in the middle of a conversation.

import { type Client, context, on } from "plugnode";
import { type Message, last, remember } from "./history";
import { BODY_RULE, NAME_RULE, body, name } from "./text";

type Answer<T> = { ok: T } | { error: string };

on("connection", (client, { auth }) => {
  const given = name((auth as { name?: unknown } | null | undefined)?.name);
  if (given) client.set({ name: given });
  const own = given ?? nameOf(client);
  client.emit("welcome", { name: own, release: context()!.release });
  client.emit("history", last());
  client.others.emit("joined", { id: client.id, name: own });
});

on("message", (client, given?: unknown): Answer<Message> => {
  const said = body(given);
  if (!said) return { error: BODY_RULE };
  const { id, receivedAt: at, release } = context()!;
  const message = { id, from: client.id, name: nameOf(client), body: said, at, release };
  remember(message);
  client.others.emit("message", message);
  return { ok: message };
});

on("set name", (client, given?: unknown): Answer<string> => {
  const wanted = name(given);
  if (!wanted) return { error: NAME_RULE };
  const was = nameOf(client);
  if (wanted !== was) {
    client.set({ name: wanted });
    client.others.emit("renamed", { id: client.id, name: wanted, was });
  }
  return { ok: wanted };
});

on("disconnect", (client) => {
  client.others.emit("left", { id: client.id, name: nameOf(client) });
});

function nameOf({ id, attributes }: Client): string {
  return typeof attributes.name === "string" ? attributes.name : `guest ${id.slice(0, 4)}`;
}
