/** The global objects of the runtime, a subset of those of browsers and Node. Leave this file out if the program gets these types
 * from elsewhere (`lib: ["dom"]` or `@types/node`). */

declare global {
  /** Writes to the host's log. */
  var console: Record<"debug" | "trace" | "log" | "info" | "warn" | "error" | "dir" | "table", (...args: unknown[]) => void> & {
    assert(condition?: unknown, ...args: unknown[]): void;
    count(label?: string): void;
    countReset(label?: string): void;
    time(label?: string): void;
    timeEnd(label?: string): void;
    group(...args: unknown[]): void;
    groupEnd(): void;
  };
  /** `env` is the `config` table of the app's configuration. */
  var process: { readonly env: Readonly<Record<string, string | undefined>>; nextTick(callback: (...args: any[]) => void, ...args: unknown[]): void };

  interface Timer {
    ref(): this;
    unref(): this;
    hasRef(): boolean;
    refresh(): this;
    close(): void;
  }
  /** A timer runs within its event if the event waits for it; otherwise it runs with the first event after it is due. */
  function setTimeout<T extends unknown[]>(callback: (...args: T) => void, delay?: number, ...args: T): Timer;
  function setInterval<T extends unknown[]>(callback: (...args: T) => void, delay?: number, ...args: T): Timer;
  function setImmediate<T extends unknown[]>(callback: (...args: T) => void, ...args: T): Timer;
  function clearTimeout(timer?: Timer): void;
  function clearInterval(timer?: Timer): void;
  function clearImmediate(timer?: Timer): void;
  function queueMicrotask(callback: () => void): void;

  function structuredClone<T>(value: T): T;
  function atob(text: string): string;
  function btoa(text: string): string;

  /** Encodes to UTF-8. */
  class TextEncoder {
    readonly encoding: "utf-8";
    encode(text?: string): Uint8Array;
    encodeInto(text: string, target: Uint8Array): { read: number; written: number };
  }
  class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    readonly encoding: "utf-8";
    decode(bytes?: ArrayBuffer | ArrayBufferView): string;
  }

  class URLSearchParams {
    constructor(init?: string | Record<string, string> | Iterable<[string, string]>);
    readonly size: number;
    append(name: string, value: string): void;
    delete(name: string): void;
    get(name: string): string | null;
    getAll(name: string): string[];
    has(name: string): boolean;
    set(name: string, value: string): void;
    sort(): void;
    forEach(callback: (value: string, name: string, params: URLSearchParams) => void): void;
    keys(): IterableIterator<string>;
    values(): IterableIterator<string>;
    entries(): IterableIterator<[string, string]>;
    [Symbol.iterator](): IterableIterator<[string, string]>;
    toString(): string;
  }
  class URL {
    constructor(url: string | URL, base?: string | URL);
    static canParse(url: string | URL, base?: string | URL): boolean;
    protocol: string;
    username: string;
    password: string;
    hostname: string;
    port: string;
    pathname: string;
    search: string;
    hash: string;
    readonly host: string;
    readonly origin: string;
    readonly href: string;
    readonly searchParams: URLSearchParams;
    toString(): string;
    toJSON(): string;
  }

  class DOMException extends Error {
    constructor(message?: string, name?: string);
  }
  class Event {
    constructor(type: string);
    readonly type: string;
    readonly target: EventTarget | null;
    readonly defaultPrevented: boolean;
    preventDefault(): void;
  }
  class EventTarget {
    addEventListener(type: string, listener: (event: Event) => void, options?: { once?: boolean }): void;
    removeEventListener(type: string, listener: (event: Event) => void): void;
    dispatchEvent(event: Event): boolean;
  }
  class AbortSignal extends EventTarget {
    readonly aborted: boolean;
    readonly reason: any;
    onabort: ((event: Event) => void) | null;
    throwIfAborted(): void;
    static abort(reason?: unknown): AbortSignal;
    static timeout(milliseconds: number): AbortSignal;
  }
  class AbortController {
    readonly signal: AbortSignal;
    abort(reason?: unknown): void;
  }

  class Headers {
    constructor(init?: Headers | Record<string, string> | Iterable<[string, string]>);
    append(name: string, value: string): void;
    delete(name: string): void;
    get(name: string): string | null;
    getSetCookie(): string[];
    has(name: string): boolean;
    set(name: string, value: string): void;
    forEach(callback: (value: string, name: string, headers: Headers) => void): void;
    keys(): IterableIterator<string>;
    values(): IterableIterator<string>;
    entries(): IterableIterator<[string, string]>;
    [Symbol.iterator](): IterableIterator<[string, string]>;
  }
  /** A response with its complete body, at most 8 MB. */
  class Response {
    constructor(body?: string | ArrayBuffer | ArrayBufferView | URLSearchParams | null, init?: { status?: number; statusText?: string; headers?: Headers | Record<string, string> });
    readonly status: number;
    readonly statusText: string;
    readonly ok: boolean;
    readonly headers: Headers;
    /** The URL after redirects. */
    readonly url: string;
    readonly redirected: boolean;
    readonly bodyUsed: boolean;
    text(): Promise<string>;
    json(): Promise<any>;
    arrayBuffer(): Promise<ArrayBuffer>;
    bytes(): Promise<Uint8Array>;
    clone(): Response;
    static json(value: unknown, init?: { status?: number; headers?: Headers | Record<string, string> }): Response;
  }
  /**
   * Sends a request to a host that the app's configuration grants: `grants = { http = ["api.example.com"] }`. The event waits for the
   * response, within the time limit of an event.
   */
  function fetch(
    url: string | URL,
    init?: {
      method?: string;
      headers?: Headers | Record<string, string> | Iterable<[string, string]>;
      body?: string | ArrayBuffer | ArrayBufferView | URLSearchParams | null;
      signal?: AbortSignal | null;
      redirect?: "follow" | "manual" | "error";
    },
  ): Promise<Response>;

  var crypto: {
    getRandomValues<T extends ArrayBufferView>(array: T): T;
    randomUUID(): string;
    readonly subtle: { digest(algorithm: string | { name: string }, bytes: ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer> };
  };
  var performance: { readonly timeOrigin: number; now(): number };
}

export {};
