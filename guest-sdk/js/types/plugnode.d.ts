/** The plugnode API: handlers without the classes of Socket.IO. */

/** A JSON value. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A set of clients, selected by rooms and client ids. */
export interface Audience {
  emit(event: string, ...args: unknown[]): this;
  join(...rooms: string[]): this;
  leave(...rooms: string[]): this;
  disconnect(close?: boolean): void;
  /** Leaves out these rooms and clients. */
  except(...rooms: (string | Client)[]): Audience;
}

/** The client whose event is being handled. */
export interface Client extends Audience {
  readonly id: string;
  readonly namespace: string;
  /** A JSON object that comes with each of the client's events, in any instance. Change it with `set`. */
  readonly attributes: Record<string, Json>;
  /** In `disconnect`: the rooms that the client was in. Undefined if its io-node died, and in other events. */
  readonly rooms?: ReadonlySet<string>;
  /** Merges these into the client's attributes; `null` removes an attribute. */
  set(patch: Record<string, Json>): void;
  /** The clients of these rooms, without this client. */
  to(...rooms: string[]): Audience;
  /** All other clients of the namespace. */
  readonly others: Audience;
}

/** How a client connected. */
export interface Handshake {
  auth?: Json;
  /** The query string, percent-encoded as received, without the `?`. */
  query: string;
  /** Alternating names and values. */
  headers: string[];
  address?: string;
}

/** Calls the listener when a client connects. */
export function on(event: "connection", listener: (client: Client, handshake: Handshake) => unknown): void;
/** Calls the listener when a client disconnects. */
export function on(event: "disconnect", listener: (client: Client, reason: string) => unknown): void;
/**
 * Calls the listener for each such event of a client. The value that it returns, or that its promise resolves to, answers the
 * client's acknowledgement.
 */
export function on(event: string, listener: (client: Client, ...args: any[]) => unknown): void;

/** Facts about a custom event. */
export interface CustomEvent {
  /** By which `acknowledge` answers the event later; undefined if nobody waits for an answer. */
  readonly ackId?: string;
  /** Undefined for events of the server API. */
  readonly client?: Client;
}

/**
 * Calls the listener for each event of this kind that no client emitted, such as those of the server API. `data` is parsed if it is JSON,
 * otherwise a Uint8Array. The value that the listener returns, or that its promise resolves to, is the answer to a caller of the server API.
 */
export function onCustom(kind: string, listener: (data: any, event: CustomEvent) => unknown): void;
/** Answers a custom event, also in a later event. Later answers than the first are dropped. */
export function acknowledge(ackId: string, ...args: unknown[]): void;

/**
 * Sends a message, as JSON or as bytes, to the webhooks that pass on this kind, and to the program that embeds the io-nodes, if one does. It is
 * an effect of the event.
 */
export function sendCustom(kind: string, data?: unknown): void;

/** The clients of these rooms, or with these ids. */
export function to(...rooms: string[]): Audience;
/** All clients of the namespace. */
export const all: Audience;

/**
 * A bucket of the key-value store, which the app's configuration must grant. Writes are committed with the event. If a value that
 * the event read has changed by then, the event is handled again.
 */
export interface Bucket {
  get<T = Json>(key: string): T | undefined;
  getBytes(key: string): Uint8Array | undefined;
  /** With `ttl`, the key expires this many milliseconds after the commit of the event. */
  set(key: string, value: unknown, options?: { ttl?: number }): void;
  setBytes(key: string, bytes: Uint8Array, options?: { ttl?: number }): void;
  has(key: string): boolean;
  delete(key: string): void;
  /** Adds to an integer, without reading it: concurrent additions do not cause events to be handled again. */
  add(key: string, by?: number): void;
  keys(prefix?: string): string[];
}

/** The bucket `default`; `kv.bucket(name)` returns another. */
export const kv: Bucket & { bucket(name: string): Bucket };

/**
 * An object in the key-value store. It is read by this call and, if it was changed, written back when the event succeeds. Call it
 * again in each event.
 */
export function state<T extends object>(key: string, initial: T, options?: { bucket?: string }): T;

/** Timers of one owner. plugnode stores them, so they survive deploys and the failure of nodes. */
export interface Timers {
  /** Sets a one-shot timer. A time in the past is due at once. Setting a key again replaces its timer. */
  at(key: string, time: Date | number, kind: string, data?: Json): void;
  /** Sets a one-shot timer that is due after this many milliseconds. */
  after(key: string, ms: number, kind: string, data?: Json): void;
  /** Sets a periodic timer, first due after one period. The period is at least 50 milliseconds. */
  every(key: string, ms: number, kind: string, data?: Json): void;
  /** Cancels a timer. Does nothing if there is none. */
  cancel(key: string): void;
}

/** Facts about a timer that is due. */
export interface Due {
  readonly key: string;
  readonly due: Date;
  /** For a periodic timer: the number of earlier periods without an event, because no event could be handled then. */
  readonly missed: number;
  /** The client that owns the timer; undefined if the app owns it. */
  readonly client?: Client;
}

/** Durable timers. Setting and cancelling them are effects of the event. `setTimeout`, in contrast, ends with its instance. */
export const schedule: {
  /** Timers of the event's client. Its disconnect cancels them. */
  readonly client: Timers;
  /** Timers of the app. */
  readonly app: Timers;
  /** Calls the listener for each due timer of this kind. */
  on(kind: string, listener: (data: any, due: Due) => unknown): void;
};

/** A client in a channel. */
export interface Member {
  readonly id: string;
  /** When it joined. */
  readonly since: Date;
  /** Its attributes when it joined; undefined if they had more than 4096 bytes. */
  readonly attributes?: Record<string, Json>;
}

/**
 * Who is in a channel (a room), across io-nodes, for the channels that the app's configuration names in `presence.channels`. Reads see the
 * last commit: what the current event changes is not in it yet.
 */
export const presence: {
  count(channel: string): number;
  members(channel: string): Member[];
  /**
   * Calls the listener when a client joins or leaves such channels, if `presence.events` is set. When it disconnects, `left` has all of
   * them, and the event has no client.
   */
  on(listener: (change: { client: string; joined: string[]; left: string[] }) => unknown): void;
};

/** The `config` table of the app's configuration. */
export const config: Readonly<Record<string, string>>;

/** Facts about the current event; null before the first. */
export function context(): {
  /** The id of the event; the same in each retry. */
  id: string;
  /** 1 for the first attempt. */
  attempt: number;
  /** When the io-node accepted the event, in milliseconds since 1970. */
  receivedAt: number;
  /** The time limit of this event, in milliseconds. */
  budget: number;
  node: string;
  instance: number;
  release: string;
} | null;

/** Writes to the host's log; formats like `console`. */
export const log: Record<"debug" | "info" | "warn" | "error", (...args: unknown[]) => void>;

/** Throw this to have the event retried after a pause, instead of becoming a dead letter. */
export class Retry extends Error {
  readonly retry: true;
}
