/** Tests a handler without a host, in any test runner for Node: deliver events, check effects. */

/** One effect of an event. */
export interface Effect {
  type: "emit" | "join" | "leave" | "ack" | "ask" | "find" | "disconnect" | "attributes" | "refuse" | "custom" | "timer" | "cancel" | "set" | "delete";
  /** The audience: all clients of a namespace, or rooms and client ids. */
  to?: { namespace?: string; all?: true; rooms?: string[]; except?: string[] };
  event?: string;
  args?: any[];
  rooms?: string[];
  [detail: string]: any;
}

/** A client of the handler under test. */
export interface TestClient {
  readonly id: string;
  readonly namespace: string;
  readonly isConnected: boolean;
  /** The events that the client received, oldest first: name and arguments. */
  readonly received: [event: string, ...args: any[]][];
  readonly rooms: Set<string>;
  readonly attributes: Record<string, any>;
  /** The effects of its `connection` event. */
  readonly effects: Effect[];
  /** Emits an event and returns its effects when its listeners are done. If a listener throws, throws the same; the event then has no effects. */
  emit(event: string, ...args: unknown[]): Promise<Effect[]>;
  /** Emits an event and returns the arguments of its acknowledgement; undefined if the handler did not answer. */
  ask(event: string, ...args: unknown[]): Promise<any[] | undefined>;
  /** Sets how the client answers this event when the handler asks for an acknowledgement. */
  answer(event: string, answer: (...args: any[]) => unknown): this;
  /** Removes and returns the events in `received`. */
  take(): [event: string, ...args: any[]][];
  disconnect(reason?: string): Promise<Effect[]>;
  /** The keys of the client's timers, sorted. */
  readonly timers: string[];
  /** Delivers the event of the client's timer, like `fire` of the module. */
  fire(key: string, options?: { missed?: number }): Promise<Effect[]>;
}

/** Connects a client and returns it when its `connection` has been handled. Throws `Refused` if the handler refused it. */
export function connect(options?: {
  id?: string;
  namespace?: string;
  auth?: unknown;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  address?: string;
}): Promise<TestClient>;
/** Delivers an event that no client sent, as the server API does: strings and bytes as they are, other data as JSON. */
export function custom(kind: string, data: unknown, contentType?: string, options?: { namespace?: string }): Promise<Effect[]>;
/** Delivers such an event and returns the arguments of its acknowledgement; undefined if the handler did not answer. `data` is JSON. */
export function ask(kind: string, data?: unknown, options?: { namespace?: string }): Promise<any[] | undefined>;
/**
 * Delivers the event of a timer of the app, also before the timer is due: timers do not run in tests. A one-shot timer is then gone.
 * `missed` is the number of periods without an event before this one. Throws if there is no such timer.
 */
export function fire(key: string, options?: { missed?: number; namespace?: string }): Promise<Effect[]>;
/** The keys of the app's timers, sorted. */
export function timers(namespace?: string): string[];
/** The value of a key in the key-value store, parsed from JSON. */
export function stored(key: string, bucket?: string): any;
/** Removes all clients, stored values and timers. Variables of the handler stay. */
export function reset(): void;
/** The app's `config` table. Set keys before the handler reads them. */
export const config: Record<string, string>;
/** The handler refused the client. */
export class Refused extends Error {
  data?: unknown;
}
