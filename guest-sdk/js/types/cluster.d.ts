/** The app-node API of socket.io-cluster. */

/** An event emitter with the core methods of Node's. */
export interface Emitter {
  on(event: string, listener: (...args: any[]) => unknown): this;
  once(event: string, listener: (...args: any[]) => unknown): this;
  off(event: string, listener: (...args: any[]) => unknown): this;
  removeListener(event: string, listener: (...args: any[]) => unknown): this;
  emit(event: string, ...args: unknown[]): boolean;
}

/** A client, with its attributes as properties. Emits `message` and `disconnect`. */
export interface Client extends Emitter {
  readonly sessionId: string;
  readonly [attribute: string]: unknown;
  send(data: unknown): this;
  broadcast(data: unknown): this;
  broadcastToChannel(channel: string, data: unknown): this;
  subscribeToChannel(channel: string): this;
  unsubscribeFromChannel(channel: string): this;
}

/** Emits `connection`, and `no-client` before an event of a client whose connection this instance did not handle. */
export interface Listener extends Emitter {
  readonly server: AppServer;
  readonly clients: Record<string, Client>;
  broadcast(data: unknown, except?: string | string[]): this;
  broadcastExcept(data: unknown, except: string | string[]): this;
  broadcastOnly(data: unknown, only: string | string[]): this;
  broadcastToChannel(channel: string, data: unknown, except?: string | string[]): this;
}

/** Emits each event under its type, with `{ sessionId, … }` and the data. */
export interface AppServer extends Emitter {
  createMessage(data: unknown): Message;
}

/** A message builder: address the message, then send it. */
export interface Message {
  setData(data: unknown): this;
  /** The default is `publish`. A message of any other type is sent to the program that embeds the io-nodes. */
  setType(type: string): this;
  addRecipient(type: "client" | "channel" | "all", id?: string): this;
  forClient(sessionId: string): this;
  forChannel(channel: string): this;
  forAll(): this;
  exceptClient(sessionId: string): this;
  send(): void;
}

/** Creates a listener. `config` is ignored: plugnode's own configuration has the address of Redis. */
export function makeListener(config?: object): Listener;
/** Creates an app server. `config` is ignored. */
export function makeAppServer(config?: object): AppServer;
/** The name of `makeListener` in the first version of socket.io-cluster. */
export function getClient(config?: object): Listener;
