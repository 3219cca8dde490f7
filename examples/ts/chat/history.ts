// The last fifteen messages: a key for each, so that instances which add at the same time never write the same one.

import { kv } from "plugnode";

/** As clients are told of it. */
export interface Message {
  id: string;
  from: string;
  name: string;
  body: string;
  /** In milliseconds since 1970. */
  at: number;
  release: string;
}

const KEPT = 15;
const PREFIX = "message:";

export function remember(message: Message): void {
  kv.set(`${PREFIX}${String(message.at).padStart(15, "0")}:${message.id}`, message);
  for (const key of keys().slice(0, -KEPT)) kv.delete(key);
}

/** Oldest first. */
export function last(): Message[] {
  const messages = keys().slice(-KEPT).map((key) => kv.get<Message>(key));
  return messages.filter((message) => message !== undefined);
}

const keys = () => kv.keys(PREFIX).sort();
