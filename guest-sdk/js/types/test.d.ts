/** Events in, effects out: tests of a handler in Node's test runner, or any other, without a host. */

/** One thing that an event's handling has done. */
export interface Effect {
  type: "emit" | "join" | "leave" | "ack" | "ask" | "find" | "rooms" | "disconnect" | "attributes" | "refuse" | "custom" | "set" | "delete";
  /** For whom: all of a namespace, or rooms and ids of clients. */
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
  /** What was emitted to it, oldest first: the event's name and its arguments. */
  readonly received: [event: string, ...args: any[]][];
  readonly rooms: Set<string>;
  readonly attributes: Record<string, any>;
  /** Of its connection. */
  readonly effects: Effect[];
  /** Emits an event, and returns its effects once its listeners are done. Throws what they throw; then there are no effects. */
  emit(event: string, ...args: unknown[]): Promise<Effect[]>;
  /** Emits an event and returns what its acknowledgement was called with; undefined if it was not. */
  ask(event: string, ...args: unknown[]): Promise<any[] | undefined>;
  /** Answers what the handler asks this client. */
  answer(event: string, answer: (...args: any[]) => unknown): this;
  /** What was emitted to it since the last time. */
  take(): [event: string, ...args: any[]][];
  disconnect(reason?: string): Promise<Effect[]>;
}

/** Connects a client, and returns it once its `connection` is over. Throws `Refused` when it was not let in. */
export function connect(options?: {
  id?: string;
  namespace?: string;
  auth?: unknown;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  address?: string;
}): Promise<TestClient>;
/** Hands in an event that no client sent. */
export function custom(kind: string, data: unknown, contentType?: string): Promise<Effect[]>;
/** The value of a key of the key-value store, as JSON has it. */
export function stored(key: string, bucket?: string): any;
/** Forgets clients, and what was stored. Variables of the handler stay. */
export function reset(): void;
/** The app's configuration: set it before the handler reads it. */
export const config: Record<string, string>;
export class Refused extends Error {
  data?: unknown;
}
