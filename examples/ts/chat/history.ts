// The last fifteen messages. Each has its own key, so that concurrent events write different keys.

import { kv } from "plugnode";

/** A message as clients receive it. */
export interface Message {
  id: string;
  from: string;
  name: string;
  body: string;
  /** In milliseconds since 1970. */
  at: number;
  release: string;
}

const LIMIT = 15;
const PREFIX = "message:";

export function add(message: Message): void {
  kv.set(`${PREFIX}${String(message.at).padStart(15, "0")}:${message.id}`, message);
  for (const key of keys().slice(0, -LIMIT)) kv.delete(key);
}

/** The last messages, oldest first. */
export function last(): Message[] {
  const messages = keys().slice(-LIMIT).map((key) => kv.get<Message>(key));
  return messages.filter((message) => message !== undefined);
}

const keys = () => kv.keys(PREFIX).sort();
