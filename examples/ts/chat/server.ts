// The chat of examples/chat in TypeScript, with the plugnode API: the same events, history and page.
//
// The program keeps no state in variables: names are attributes of the clients, and the history is in the key-value store. Any instance
// can handle any event, and a release in any language can take over during a conversation.

import { type Client, context, on } from "plugnode";
import * as history from "./history";
import { BODY_RULE, NAME_RULE, normalizeBody, normalizeName } from "./text";

type Answer<T> = { ok: T } | { error: string };

on("connection", (client, { auth }) => {
  const given = normalizeName((auth as { name?: unknown } | null | undefined)?.name);
  if (given) client.set({ name: given });
  const own = given ?? nameOf(client);
  client.emit("welcome", { name: own, release: context()!.release });
  client.emit("history", history.last());
  client.others.emit("joined", { id: client.id, name: own });
});

on("message", (client, given?: unknown): Answer<history.Message> => {
  const body = normalizeBody(given);
  if (!body) return { error: BODY_RULE };
  const { id, receivedAt: at, release } = context()!;
  const message = { id, from: client.id, name: nameOf(client), body, at, release };
  history.add(message);
  client.others.emit("message", message);
  return { ok: message };
});

on("set name", (client, given?: unknown): Answer<string> => {
  const name = normalizeName(given);
  if (!name) return { error: NAME_RULE };
  const was = nameOf(client);
  if (name !== was) {
    client.set({ name });
    client.others.emit("renamed", { id: client.id, name, was });
  }
  return { ok: name };
});

on("disconnect", (client) => {
  client.others.emit("left", { id: client.id, name: nameOf(client) });
});

function nameOf({ id, attributes }: Client): string {
  return typeof attributes.name === "string" ? attributes.name : `guest ${id.slice(0, 4)}`;
}
