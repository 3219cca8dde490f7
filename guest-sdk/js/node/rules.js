// The rules for commands in the test kit: what plugnode refuses, in its words. They are those of `guest-sdk/src/native/rules.rs`, with the
// default limits of an app.
//
// A check returns the bytes that count against the limit of an event, and throws the error that the listener gets.

"use strict";

const MAX_NAME = 1_024;
const MAX_COMMANDS = 10_000;
const MAX_BYTES = 16_000_000;
const MAX_PAYLOAD = 4_000_000;
const MAX_ATTACHMENTS = 10;
const MAX_VALUE = 1_000_000;
const MAX_REFUSAL_MESSAGE = 1 << 10;
const MAX_REFUSAL_DATA = 16 << 10;
const MIN_PERIOD_MS = 50;
/** Event names that Socket.IO emits itself on the receiving side. */
const RESERVED_EVENTS = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
/** Prefix of the kinds that only the host uses. */
const RESERVED_KINDS = "plugnode.";

const COMMAND_QUOTA = "this event has used up its limit of commands or bytes; raise it in the app's `limits`";
/** The words of `add`, of `set` with `ttl`, and of timers. */
const WRITE_QUOTA = "this event has used up its limit of writes or bytes; raise it in the app's `limits`";
const STORE_QUOTA = "this event has used up its writes or bytes: write less, or raise limits.commands or limits.bytes";

const refuse = (words) => {
  throw new Error(words);
};
/** As the host quotes a text. */
const quoted = (text) => JSON.stringify(text);
const sizeOf = (text) => Buffer.byteLength(text);
const sizeOfAll = (names = []) => names.reduce((sum, name) => sum + sizeOf(name), 0);

function checkName(what, name) {
  const size = sizeOf(name);
  if (size > MAX_NAME) refuse(`the name of the ${what} has ${size} bytes; a name may have ${MAX_NAME}`);
  return size;
}

function checkSize(size) {
  if (size > MAX_PAYLOAD) refuse("the payload exceeds `limits.payload` of the app's configuration");
  return size;
}

function event(name) {
  if (RESERVED_EVENTS.includes(name)) refuse(`the event name ${quoted(name)} is reserved by Socket.IO: choose another`);
  return checkName("event", name);
}

function payload(json, attachments = []) {
  if (attachments.length > MAX_ATTACHMENTS) {
    refuse(
      `${attachments.length} attachments are over the limit of ${MAX_ATTACHMENTS}: Socket.IO's own clients close their connection over ` +
        `more than ${MAX_ATTACHMENTS}, so send several events, or join the binary values (only where all clients take more: raise ` +
        "`attachments` in the app's `limits`)",
    );
  }
  return checkSize(sizeOf(json) + attachments.reduce((sum, bytes) => sum + bytes.length, 0));
}

/** Names that select clients may have any length: a name that no client has selects none. */
function audience({ ns, clients, channels, exceptClients, exceptChannels }) {
  if (ns !== undefined && ns !== null) {
    if (!ns.startsWith("/")) refuse(`the namespace ${quoted(ns)} does not begin with a slash; write "/${ns}"`);
    checkName("namespace", ns);
  }
  return [clients, channels, exceptClients, exceptChannels].reduce((sum, names) => sum + sizeOfAll(names), 0);
}

const newChannels = (names) => names.reduce((sum, name) => sum + checkName("channel", name), 0);

const patch = (json) => checkSize(sizeOf(json));

function customKind(kind) {
  if (kind.startsWith(RESERVED_KINDS)) refuse(`invalid kind ${quoted(kind)}: the prefix \`${RESERVED_KINDS}\` is reserved for the host`);
  return sizeOf(kind);
}

/** `call` is the kind of the current event. */
function refusal(call, message, data = "") {
  if (call !== "connection") refuse("a client can be refused only while its connection is handled: disconnect it instead");
  const sizes = [sizeOf(message), sizeOf(data)];
  if (sizes[0] > MAX_REFUSAL_MESSAGE || sizes[1] > MAX_REFUSAL_DATA) checkSize(Infinity);
  return sizes[0] + sizes[1];
}

function local(hasClient) {
  if (!hasClient) refuse("cannot deliver locally: this event has no client, and so no io-node; deliver to all io-nodes");
}

function query(hasClient) {
  if (!hasClient) refuse("cannot query io-nodes: this event has no client to receive the reply");
}

/** `call` is the kind of the current event; a client owns the timer if `isOfClient`. */
function timer(call, hasClient, isOfClient, key) {
  const size = sizeOf(key);
  if (size === 0 || size > MAX_NAME) refuse(`invalid key: use 1 to ${MAX_NAME} bytes`);
  if (isOfClient && !hasClient) refuse("this event has no client to own the timer: make the app its owner");
  if (isOfClient && call === "disconnect") {
    refuse("the client has disconnected, which ends its timers: make the app the timer's owner");
  }
  return size;
}

function timerEvent(kind, data) {
  const size = sizeOf(kind);
  if (size === 0 || size > MAX_NAME || kind.startsWith(RESERVED_KINDS)) {
    refuse(`invalid kind ${quoted(kind)}: use 1 to ${MAX_NAME} bytes that do not begin with \`${RESERVED_KINDS}\``);
  }
  if (data.length > MAX_PAYLOAD) {
    refuse(`data of ${data.length} bytes is over the app's limit of ${MAX_PAYLOAD}: use less, or raise limits.payload`);
  }
  return size + data.length;
}

function period(ms) {
  if (ms < MIN_PERIOD_MS) refuse(`a period of ${ms} ms is too short: use at least ${MIN_PERIOD_MS} ms`);
}

function value(bytes) {
  if (bytes.length > MAX_VALUE) {
    refuse(
      `a value of ${bytes.length} bytes is over the app's limit of ${MAX_VALUE}: store less under one key, or raise limits.value`,
    );
  }
  return bytes.length;
}

/** The sum of a stored integer and another, as text. */
function sum(key, stored, by) {
  const wrong = (reason) => refuse(`cannot add to key ${quoted(key)}: ${reason}`);
  if (!/^[+-]?[0-9]+$/.test(stored)) wrong("its value is not an integer");
  const total = BigInt(stored) + BigInt(by);
  if (BigInt.asIntN(64, total) !== total) wrong("the sum is too large");
  return String(total);
}

/** Counts commands and writes of one event, and their bytes. */
class Quota {
  #count = 0;
  #bytes = 0;
  charge(size, words = COMMAND_QUOTA) {
    if (this.#count >= MAX_COMMANDS || this.#bytes + size > MAX_BYTES) refuse(words);
    this.#count += 1;
    this.#bytes += size;
  }
}

module.exports = {
  Quota,
  STORE_QUOTA,
  WRITE_QUOTA,
  audience,
  checkSize,
  customKind,
  event,
  local,
  newChannels,
  patch,
  payload,
  period,
  query,
  refusal,
  sizeOf,
  sum,
  timer,
  timerEvent,
  value,
};
