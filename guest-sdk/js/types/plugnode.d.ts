/** A handler without Socket.IO's classes. */

/** What JSON can say. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** Clients and rooms to emit to. */
export interface Audience {
  emit(event: string, ...args: unknown[]): this;
  join(...rooms: string[]): this;
  leave(...rooms: string[]): this;
  disconnect(close?: boolean): void;
  /** All but these rooms and clients. */
  except(...rooms: (string | Client)[]): Audience;
}

/** The client of the event that is handled. */
export interface Client extends Audience {
  readonly id: string;
  readonly namespace: string;
  /** What is kept of it, and comes with each of its events. */
  readonly attributes: Record<string, Json>;
  /** In `disconnect`: the rooms that it was in until then. Undefined when its io-node died with them, and elsewhere. */
  readonly rooms?: ReadonlySet<string>;
  /** Merges these into its attributes; null takes one away. */
  set(patch: Record<string, Json>): void;
  /** Rooms, without this client. */
  to(...rooms: string[]): Audience;
  /** All clients of the namespace but this one. */
  readonly others: Audience;
}

/** How a client connected. */
export interface Handshake {
  auth?: Json;
  /** Not decoded, and without the `?`. */
  query: string;
  /** Names and values in turn. */
  headers: string[];
  address?: string;
}

/** Calls the listener when a client connects, */
export function on(event: "connection", listener: (client: Client, handshake: Handshake) => unknown): void;
/** when it is gone, */
export function on(event: "disconnect", listener: (client: Client, reason: string) => unknown): void;
/** and for each event of a client. What the listener returns, or promises, answers the client's acknowledgement. */
export function on(event: string, listener: (client: Client, ...args: any[]) => unknown): void;

/** Rooms, and clients by their ids. */
export function to(...rooms: string[]): Audience;
/** All clients of the namespace. */
export const all: Audience;

/**
 * A bucket of the key-value store that the app's configuration grants. Writes take effect with the event, if what it has read is
 * still so; else the event is handled again.
 */
export interface Bucket {
  get<T = Json>(key: string): T | undefined;
  getBytes(key: string): Uint8Array | undefined;
  /** `ttl`: it is gone by itself so many milliseconds after the event. */
  set(key: string, value: unknown, options?: { ttl?: number }): void;
  setBytes(key: string, bytes: Uint8Array, options?: { ttl?: number }): void;
  has(key: string): boolean;
  delete(key: string): void;
  /** Adds to an integer without reading it: events that do so at once do not stand in each other's way. */
  add(key: string, by?: number): void;
  keys(prefix?: string): string[];
}

/** The bucket `default`, and the way to others. */
export const kv: Bucket & { bucket(name: string): Bucket };

/**
 * An object of the key-value store: read now, and written back when the event ends well, if it was changed. Call it anew in each
 * event.
 */
export function state<T extends object>(key: string, initial: T, options?: { bucket?: string }): T;

/** Timers of one owner. They are kept by plugnode: neither a deploy nor the death of a node loses one. */
export interface Timers {
  /** Sets a timer to a time; one that is over is due at once. To set a key again replaces its timer. */
  at(key: string, time: Date | number, kind: string, data?: Json): void;
  /** Sets a timer that is due after so many milliseconds. */
  after(key: string, ms: number, kind: string, data?: Json): void;
  /** Sets a timer that is due again and again, first after one period of 50 milliseconds or more. */
  every(key: string, ms: number, kind: string, data?: Json): void;
  cancel(key: string): void;
}

/** What is known of a timer that is due. */
export interface Due {
  readonly key: string;
  readonly due: Date;
  /** How many times before this one were left out, since nothing could be handled then. */
  readonly missed: number;
  /** The client whose timer it is. */
  readonly client?: Client;
}

/** Timers, as effects of the event that sets them. `setTimeout` is an instance's own, and gone with it. */
export const schedule: {
  /** Of the client of the event: they go with it. */
  readonly client: Timers;
  /** Of the app. */
  readonly app: Timers;
  /** Calls the listener for each timer of this kind that is due. */
  on(kind: string, listener: (data: any, due: Due) => unknown): void;
};

/** The `config` table of the app's configuration. */
export const config: Readonly<Record<string, string>>;

/** What the host knows of the present event; null before the first. */
export function context(): {
  /** The same each time this event is tried again. */
  id: string;
  /** 1 the first time. */
  attempt: number;
  /** In milliseconds since 1970. */
  receivedAt: number;
  /** Milliseconds for this event. */
  budget: number;
  node: string;
  instance: number;
  release: string;
} | null;

/** Lines for the host's log, as console has them. */
export const log: Record<"debug" | "info" | "warn" | "error", (...args: unknown[]) => void>;

/** Thrown, it has the event handled again a little later, instead of put aside. */
export class Retry extends Error {
  readonly retry: true;
}
