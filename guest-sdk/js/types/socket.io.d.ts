/** Socket.IO's server API in plugnode. Names and types are those of Socket.IO 4. */

export interface DefaultEventsMap {
  [event: string]: (...args: any[]) => void;
}

type Name<Map> = keyof Map & string;
type Args<Map, Event extends keyof Map> = Map[Event] extends (...args: infer A) => any ? A : never;
type Last<T extends any[]> = T extends [...any[], infer L] ? L : never;
type AllButLast<T extends any[]> = T extends [...infer F, any] ? F : T;
/** The first argument that is not the error of a time-out. */
type Value<A extends any[]> = A extends [Error, ...infer Rest] ? Rest[0] : A[0];
/** The answer type of the acknowledgement at the end of these arguments. */
type Answer<T extends any[]> = Last<T> extends (...args: infer A) => any ? Value<A> : any;

/** The arguments of an event after `timeout`: the acknowledgement gets an error first. */
type Timed<T extends any[]> = T extends [...infer First, infer L]
  ? L extends (...args: infer A) => infer R
    ? [...First, (error: Error, ...args: A) => R]
    : T
  : T;
type TimedEvents<Map> = {
  [Event in keyof Map]: Map[Event] extends (...args: infer A) => infer R ? (...args: Timed<A>) => R : Map[Event];
};
/** The same for many clients: an error, and the answers. */
type TimedForAll<T extends any[]> = T extends [...infer First, infer L]
  ? L extends (...args: infer A) => infer R
    ? [...First, (error: Error, answers: Value<A>[]) => R]
    : T
  : T;

export type Room = string;
export type SocketId = string;

export interface Handshake {
  headers: Record<string, string | undefined>;
  time: string;
  address: string;
  xdomain: boolean;
  secure: boolean;
  issued: number;
  url: string;
  query: Record<string, string | undefined>;
  auth: Record<string, any>;
}

export type DisconnectReason =
  | "client namespace disconnect"
  | "server namespace disconnect"
  | "transport close"
  | "transport error"
  | "ping timeout"
  | "parse error"
  | "server shutting down"
  /** The io-node that held the connection died. */
  | "node lost";

export interface ExtendedError extends Error {
  data?: any;
}

export type Middleware<S> = (socket: S, next: (error?: ExtendedError) => void) => unknown;

interface Emits<EmitEvents> {
  emit<Event extends Name<EmitEvents>>(event: Event, ...args: Args<EmitEvents, Event>): boolean;
  send(...args: any[]): this;
  write(...args: any[]): this;
}

export interface BroadcastOperator<EmitEvents = DefaultEventsMap, SocketData = any> {
  to(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;
  in(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;
  except(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;
  compress(compress: boolean): BroadcastOperator<EmitEvents, SocketData>;
  timeout(milliseconds: number): TimedOperator<EmitEvents, SocketData>;
  readonly volatile: BroadcastOperator<EmitEvents, SocketData>;
  readonly local: BroadcastOperator<EmitEvents, SocketData>;
  emit<Event extends Name<EmitEvents>>(event: Event, ...args: Args<EmitEvents, Event>): boolean;
  emitWithAck<Event extends Name<EmitEvents>>(
    event: Event,
    ...args: AllButLast<Args<EmitEvents, Event>>
  ): Promise<Answer<Args<EmitEvents, Event>>[]>;
  send(...args: any[]): this;
  write(...args: any[]): this;
  fetchSockets(): Promise<RemoteSocket<EmitEvents, SocketData>[]>;
  allSockets(): Promise<Set<SocketId>>;
  socketsJoin(room: Room | Room[]): void;
  socketsLeave(room: Room | Room[]): void;
  disconnectSockets(close?: boolean): void;
}

/** A BroadcastOperator after `timeout`. */
export interface TimedOperator<EmitEvents = DefaultEventsMap, SocketData = any>
  extends Omit<BroadcastOperator<EmitEvents, SocketData>, "to" | "in" | "except" | "volatile" | "local" | "emit"> {
  to(room: Room | Room[]): TimedOperator<EmitEvents, SocketData>;
  in(room: Room | Room[]): TimedOperator<EmitEvents, SocketData>;
  except(room: Room | Room[]): TimedOperator<EmitEvents, SocketData>;
  readonly volatile: TimedOperator<EmitEvents, SocketData>;
  readonly local: TimedOperator<EmitEvents, SocketData>;
  emit<Event extends Name<EmitEvents>>(event: Event, ...args: TimedForAll<Args<EmitEvents, Event>>): boolean;
}

export interface RemoteSocket<EmitEvents = DefaultEventsMap, SocketData = any> {
  readonly id: SocketId;
  readonly handshake: Handshake;
  readonly rooms: Set<Room>;
  readonly data: SocketData;
  emit<Event extends Name<EmitEvents>>(event: Event, ...args: Args<EmitEvents, Event>): boolean;
  timeout(milliseconds: number): TimedOperator<EmitEvents, SocketData>;
  join(room: Room | Room[]): void;
  leave(room: Room): void;
  disconnect(close?: boolean): this;
}

/** A client. `data`, and properties that the program sets on the socket, are the same in all instances. */
export interface Socket<
  ListenEvents = DefaultEventsMap,
  EmitEvents = ListenEvents,
  ServerSideEvents = DefaultEventsMap,
  SocketData = any,
> extends Emits<EmitEvents> {
  readonly id: SocketId;
  readonly nsp: Namespace<ListenEvents, EmitEvents, ServerSideEvents, SocketData>;
  readonly handshake: Handshake;
  readonly rooms: Set<Room>;
  readonly connected: boolean;
  readonly disconnected: boolean;
  readonly recovered: boolean;
  data: SocketData;

  on<Event extends Name<ListenEvents>>(event: Event, listener: ListenEvents[Event]): this;
  on(event: "disconnect" | "disconnecting", listener: (reason: DisconnectReason, description?: any) => unknown): this;
  on(event: "error", listener: (error: Error) => unknown): this;
  once<Event extends Name<ListenEvents>>(event: Event, listener: ListenEvents[Event]): this;
  off<Event extends Name<ListenEvents>>(event: Event, listener: ListenEvents[Event]): this;
  removeListener<Event extends Name<ListenEvents>>(event: Event, listener: ListenEvents[Event]): this;
  removeAllListeners(event?: string): this;
  onAny(listener: (event: string, ...args: any[]) => unknown): this;
  prependAny(listener: (event: string, ...args: any[]) => unknown): this;
  offAny(listener?: (event: string, ...args: any[]) => unknown): this;
  listenersAny(): ((event: string, ...args: any[]) => unknown)[];
  onAnyOutgoing(listener: (event: string, ...args: any[]) => unknown): this;
  prependAnyOutgoing(listener: (event: string, ...args: any[]) => unknown): this;
  offAnyOutgoing(listener?: (event: string, ...args: any[]) => unknown): this;
  use(middleware: (event: [string, ...any[]], next: (error?: Error) => void) => unknown): this;

  emitWithAck<Event extends Name<EmitEvents>>(
    event: Event,
    ...args: AllButLast<Args<EmitEvents, Event>>
  ): Promise<Answer<Args<EmitEvents, Event>>>;
  timeout(milliseconds: number): Socket<ListenEvents, TimedEvents<EmitEvents>, ServerSideEvents, SocketData>;
  compress(compress: boolean): this;
  readonly volatile: this;
  readonly local: BroadcastOperator<EmitEvents, SocketData>;
  readonly broadcast: BroadcastOperator<EmitEvents, SocketData>;
  to(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;
  in(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;
  except(room: Room | Room[]): BroadcastOperator<EmitEvents, SocketData>;

  join(room: Room | Room[]): void;
  leave(room: Room): void;
  disconnect(close?: boolean): this;
  /** Properties that the program sets. */
  [property: string]: any;
}

export interface Namespace<
  ListenEvents = DefaultEventsMap,
  EmitEvents = ListenEvents,
  ServerSideEvents = DefaultEventsMap,
  SocketData = any,
> extends Omit<BroadcastOperator<EmitEvents, SocketData>, "send" | "write">, Emits<EmitEvents> {
  readonly name: string;
  /** The clients known to this instance. */
  readonly sockets: Map<SocketId, Socket<ListenEvents, EmitEvents, ServerSideEvents, SocketData>>;
  /** The rooms and clients known to this instance. */
  readonly adapter: { readonly rooms: Map<Room, Set<SocketId>>; readonly sids: Map<SocketId, Set<Room>> };
  on(
    event: "connection" | "connect",
    listener: (socket: Socket<ListenEvents, EmitEvents, ServerSideEvents, SocketData>) => unknown,
  ): this;
  use(middleware: Middleware<Socket<ListenEvents, EmitEvents, ServerSideEvents, SocketData>>): this;
}

export class Server<
  ListenEvents = DefaultEventsMap,
  EmitEvents = ListenEvents,
  ServerSideEvents = DefaultEventsMap,
  SocketData = any,
> {
  /** `server` and `options` are accepted for compatibility and ignored: plugnode's io-nodes accept the connections. */
  constructor(server?: unknown, options?: unknown);
  readonly sockets: Namespace<ListenEvents, EmitEvents, ServerSideEvents, SocketData>;
  /** `on` and `use` are accepted for compatibility and ignored. */
  readonly engine: { readonly clientsCount: number; on(event: string, listener: (...args: any[]) => unknown): unknown; use(middleware: unknown): unknown };
  of(
    name: string | RegExp | ((name: string, auth: object, next: (error: Error | null, allowed: boolean) => void) => void),
    listener?: (socket: Socket<ListenEvents, EmitEvents, ServerSideEvents, SocketData>) => unknown,
  ): Namespace<ListenEvents, EmitEvents, ServerSideEvents, SocketData>;
  attach(...args: unknown[]): this;
  listen(...args: unknown[]): this;
  close(done?: () => void): Promise<void>;
}
export interface Server<
  ListenEvents = DefaultEventsMap,
  EmitEvents = ListenEvents,
  ServerSideEvents = DefaultEventsMap,
  SocketData = any,
> extends Omit<Namespace<ListenEvents, EmitEvents, ServerSideEvents, SocketData>, "name" | "sockets"> {}

export default Server;
