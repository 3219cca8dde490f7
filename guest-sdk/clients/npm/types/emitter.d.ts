/** Emit events to the Socket.IO clients of plugnode, through its server API, with the methods of `@socket.io/redis-emitter`. */

/** Events by name, as the types of their listeners. */
export interface DefaultEventsMap {
  [event: string]: (...args: any[]) => void;
}

export interface Options {
  /** The address of the server API, such as `http://127.0.0.1:9090`. With several nodes, a call that fails is repeated at the next. */
  url: string | string[];
  /** The secret of an `[[api.key]]`. */
  key: string;
  /** For how long a call is repeated, in milliseconds. Default: 30,000. */
  timeout?: number;
}

/** A call was carried out. */
export interface Done {
  /** The id of the event that did it; undefined if it was accepted, will be carried out once, and was not in time for the answer. */
  event?: string;
  /** Whether an earlier attempt had done it. */
  repeated: boolean;
}

/** A handler has handled an event. */
export interface Handled extends Done {
  /** The arguments of its acknowledgement; undefined without one. */
  args?: any[];
}

export interface Found<Events = DefaultEventsMap> {
  /** The number of matching clients. */
  count: number;
  /** Up to `most` of them. */
  sockets: RemoteSocket<Events>[];
  /** The io-nodes that did not answer in time, whose clients are missing. */
  silent: string[];
}

/**
 * Clients of a namespace. Calls that begin with the same room, and those for all clients of a namespace, are carried out in the order in
 * which they are made; those that wait for an earlier one are sent together. A call that gets no answer is repeated with the same
 * idempotency key, so it takes effect once.
 */
export class Broadcast<Events = DefaultEventsMap> {
  /** Selects the clients in these rooms, or with these ids. */
  to(...rooms: (string | string[])[]): Broadcast<Events>;
  in(...rooms: (string | string[])[]): Broadcast<Events>;
  /** Selects one client by its id. With no other selection, calls are in order with what the client sends. */
  client(id: string): Broadcast<Events>;
  /** Leaves out the clients in these rooms, or with these ids. */
  except(...rooms: (string | string[])[]): Broadcast<Events>;
  /** Skips clients that are not ready to receive. */
  readonly volatile: Broadcast<Events>;
  emit<Event extends keyof Events & string>(
    event: Event,
    ...args: Events[Event] extends (...args: infer Args) => any ? Args : any[]
  ): Promise<Done>;
  socketsJoin(...rooms: (string | string[])[]): Promise<Done>;
  socketsLeave(...rooms: (string | string[])[]): Promise<Done>;
  /** With `close`, closes the whole connection, after which a JavaScript client reconnects. */
  disconnectSockets(close?: boolean): Promise<Done>;
  /** The clients, 10,000 at most. Rejects if there are more, or if an io-node does not answer within `timeout` milliseconds (2,000). */
  fetchSockets(options?: { timeout?: number }): Promise<RemoteSocket<Events>[]>;
  /** Counts the clients and describes up to `most` (1,000), as far as io-nodes answer within `timeout` milliseconds (2,000). */
  find(options?: { most?: number; timeout?: number }): Promise<Found<Events>>;
}

/** A client that was found. */
export class RemoteSocket<Events = DefaultEventsMap> {
  private constructor();
  readonly id: string;
  readonly rooms: Set<string>;
  /** What handlers have stored with the client. */
  readonly attributes: Record<string, any>;
  readonly ioNode: string;
  emit: Broadcast<Events>["emit"];
  join: Broadcast<Events>["socketsJoin"];
  leave: Broadcast<Events>["socketsLeave"];
  disconnect: Broadcast<Events>["disconnectSockets"];
}

/** A client in a room whose presence is kept. */
export interface Present {
  id: string;
  /** When it joined. */
  since: Date;
  /** Its attributes when it joined; null if they were too large to be kept. */
  attributes: Record<string, any> | null;
}

/** All clients of the namespace `/`. */
export class Emitter<Events = DefaultEventsMap> extends Broadcast<Events> {
  constructor(options: Options);
  /** All clients of another namespace. */
  of(namespace: string): Broadcast<Events>;
  /** Reads who is in a room whose presence is kept. */
  presence(namespace: string, room: string): Promise<Present[]>;
  /** Gives a custom event to the handler of a namespace's app, and returns its acknowledgement. */
  event(
    namespace: string,
    kind: string,
    data?: unknown,
    options?: {
      /** What to wait for; `handled` by default. See docs/server-api.md. */
      wait?: "accepted" | "handled" | "acknowledged";
      /** The time for the answer, in milliseconds: 10,000 by default and 60,000 at most. */
      timeout?: number;
      /** Events with the same text here are handled in order, one at a time. */
      order?: string;
      /** Events with the same key take effect once within a day. Default: a new one. */
      idempotencyKey?: string;
    },
  ): Promise<Handled>;
}

/** A call was refused, or had no answer in time: then it may have taken effect. */
export class EmitterError extends Error {
  /** The HTTP status; undefined without an answer. */
  readonly status?: number;
  /** The kind of problem, such as `urn:plugnode:api:forbidden`. */
  readonly type?: string;
  /** The field that is wrong. */
  readonly field?: string;
  /** The key of the request, with which a repetition takes effect once. */
  readonly idempotencyKey?: string;
}
