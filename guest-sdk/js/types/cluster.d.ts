/** The app-node of socket.io-cluster, by its own names. */

/** Listeners by event, as Node's. */
export interface Emitter {
  on(event: string, listener: (...args: any[]) => unknown): this;
  once(event: string, listener: (...args: any[]) => unknown): this;
  off(event: string, listener: (...args: any[]) => unknown): this;
  removeListener(event: string, listener: (...args: any[]) => unknown): this;
  emit(event: string, ...args: unknown[]): boolean;
}

/** A client, with its attributes as properties. It emits `message` and `disconnect`. */
export interface Client extends Emitter {
  readonly sessionId: string;
  readonly [attribute: string]: unknown;
  send(data: unknown): this;
  broadcast(data: unknown): this;
  broadcastToChannel(channel: string, data: unknown): this;
  subscribeToChannel(channel: string): this;
  unsubscribeFromChannel(channel: string): this;
}

/** It emits `connection`, and `no-client` for a client whose connection this instance has not seen. */
export interface Listener extends Emitter {
  readonly server: AppServer;
  readonly clients: Record<string, Client>;
  broadcast(data: unknown, except?: string | string[]): this;
  broadcastExcept(data: unknown, except: string | string[]): this;
  broadcastOnly(data: unknown, only: string | string[]): this;
  broadcastToChannel(channel: string, data: unknown, except?: string | string[]): this;
}

/** It emits each event by its type, with `{ sessionId, … }` and the data. */
export interface AppServer extends Emitter {
  createMessage(data: unknown): Message;
}

/** A message on its way: addressed, then sent. */
export interface Message {
  setData(data: unknown): this;
  /** `publish` by default; another type goes to the program that embeds the io-nodes. */
  setType(type: string): this;
  addRecipient(type: "client" | "channel" | "all", id?: string): this;
  forClient(sessionId: string): this;
  forChannel(channel: string): this;
  forAll(): this;
  exceptClient(sessionId: string): this;
  send(): void;
}

/** The config is taken, and not used: where Redis is, plugnode's configuration says. */
export function makeListener(config?: object): Listener;
export function makeAppServer(config?: object): AppServer;
/** Its name in the first version. */
export function getClient(config?: object): Listener;
