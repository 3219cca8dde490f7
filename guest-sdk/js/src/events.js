// The commonly used part of Node's EventEmitter. The listeners are not a visible property of the emitter.

const LISTENERS = Symbol("listeners");

class EventEmitter {
  static defaultMaxListeners = 10;

  on(event, listener) {
    return add(this, event, listener, false, false);
  }
  addListener(event, listener) {
    return add(this, event, listener, false, false);
  }
  prependListener(event, listener) {
    return add(this, event, listener, false, true);
  }
  once(event, listener) {
    return add(this, event, listener, true, false);
  }
  prependOnceListener(event, listener) {
    return add(this, event, listener, true, true);
  }
  off(event, listener) {
    return this.removeListener(event, listener);
  }
  removeListener(event, listener) {
    const listeners = this[LISTENERS]?.get(event);
    const at = listeners?.findLastIndex((known) => known.listener === listener) ?? -1;
    if (at < 0) return this;
    // A new list, because the old one may be being iterated over.
    const left = listeners.toSpliced(at, 1);
    if (left.length > 0) this[LISTENERS].set(event, left);
    else this[LISTENERS].delete(event);
    return this;
  }
  removeAllListeners(event) {
    if (event === undefined) this[LISTENERS]?.clear();
    else this[LISTENERS]?.delete(event);
    return this;
  }
  emit(event, ...args) {
    const listeners = this[LISTENERS]?.get(event);
    if (!listeners) {
      if (event === "error") throw args[0] instanceof Error ? args[0] : new Error(`Unhandled error. (${String(args[0])})`);
      return false;
    }
    for (const { listener, isOnce } of listeners) {
      if (isOnce) this.removeListener(event, listener);
      listener.apply(this, args);
    }
    return true;
  }
  listeners(event) {
    return (this[LISTENERS]?.get(event) ?? []).map(({ listener }) => listener);
  }
  rawListeners(event) {
    return this.listeners(event);
  }
  listenerCount(event) {
    return this[LISTENERS]?.get(event)?.length ?? 0;
  }
  eventNames() {
    return [...(this[LISTENERS]?.keys() ?? [])];
  }
  setMaxListeners() {
    return this;
  }
  getMaxListeners() {
    return EventEmitter.defaultMaxListeners;
  }
}

function add(emitter, event, listener, isOnce, isFirst) {
  if (typeof listener !== "function") throw new TypeError('The "listener" argument must be of type function');
  if (!emitter[LISTENERS]) Object.defineProperty(emitter, LISTENERS, { __proto__: null, value: new Map(), enumerable: false });
  const listeners = emitter[LISTENERS].get(event) ?? [];
  const added = { listener, isOnce };
  emitter[LISTENERS].set(event, isFirst ? [added, ...listeners] : [...listeners, added]);
  return emitter;
}

/** Calls the listeners through `run` of `internal`: an exception fails the event, a returned promise is awaited. */
function call(emitter, event, args, run) {
  const listeners = emitter[LISTENERS]?.get(event);
  if (!listeners) return false;
  for (const { listener, isOnce } of listeners) {
    if (isOnce) emitter.removeListener(event, listener);
    run(() => listener.apply(emitter, args));
  }
  return true;
}

/** A promise for the arguments of the next such event. */
function once(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, (...args) => resolve(args));
    if (event !== "error") emitter.once("error", reject);
  });
}

module.exports = EventEmitter;
// Constructor functions of older programs begin with `EventEmitter.call(this)` or `EventEmitter.apply(this, arguments)`. `call` takes
// that for an emit without listeners.
Object.assign(module.exports, { EventEmitter, once, call, apply: () => undefined });
