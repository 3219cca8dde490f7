// Sends calls in order, and several at a time. Calls of one lane are sent one after the other; those that wait there for an earlier one
// become one batch, which the API commits as a whole. Lanes are those of the API's own order, so batches do not change it.

"use strict";

const { randomUUID } = require("node:crypto");

const { EmitterError } = require("./error");
const { arrayHead } = require("./msgpack");

/** Requests at the same time. */
const MAX_REQUESTS = 8;
/** Calls in a batch, and their bytes. */
const MAX_BATCH = 100;
const MAX_BATCH_BYTES = 256 * 1_024;
/** Calls that wait for their answer, and their bytes. */
const MAX_CALLS = 10_000;
const MAX_BYTES = 64 * 1_024 * 1_024;

class Lanes {
  #http;
  #lanes = new Map();
  #calls = 0;
  #bytes = 0;
  #running = 0;
  #waiting = [];

  constructor(http) {
    this.#http = http;
  }

  /** Returns a promise for the answer. `call` has `operation`, `type`, `body`, and optionally `idempotencyKey`, `wait`, `isSingle`. */
  add(lane, call) {
    if (this.#calls >= MAX_CALLS || this.#bytes + call.body.length > MAX_BYTES) {
      throw new EmitterError(`${this.#calls} calls wait for their answers: await some before you make more`);
    }
    this.#calls += 1;
    this.#bytes += call.body.length;
    const { promise, ...settle } = withResolvers();
    const added = { ...call, ...settle };
    const queue = this.#lanes.get(lane);
    if (queue) queue.push(added);
    else {
      this.#lanes.set(lane, [added]);
      this.#drain(lane, this.#lanes.get(lane));
    }
    return promise.finally(() => {
      this.#calls -= 1;
      this.#bytes -= call.body.length;
    });
  }

  async #drain(lane, queue) {
    // Calls of the same turn of the event loop come into the first batch.
    await null;
    while (queue.length > 0) {
      if (this.#running >= MAX_REQUESTS) await new Promise((resolve) => this.#waiting.push(resolve));
      else this.#running += 1;
      await this.#send(take(queue));
      // Hands its place on.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
    this.#lanes.delete(lane);
  }

  async #send(batch) {
    const [{ operation, type, wait, idempotencyKey = randomUUID() }] = batch;
    const body = batch.length > 1 ? joined(batch) : batch[0].body;
    try {
      const answer = await this.#http.post(operation, { type, body, wait, idempotencyKey });
      for (const { resolve } of batch) resolve(answer);
    } catch (error) {
      if (batch.length > 1 && (error.status === 413 || error.status === 422)) {
        // Nothing was done. Only the wrong call is to fail.
        const half = batch.length >> 1;
        await this.#send(batch.slice(0, half));
        await this.#send(batch.slice(half));
      } else for (const { reject } of batch) reject(error);
    }
  }
}

/** `Promise.withResolvers`, which older versions of Node lack. */
function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/** Removes the first calls that can be sent together. */
function take(queue) {
  const [first] = queue;
  let count = 1;
  let bytes = first.body.length;
  const fits = (call) =>
    call.operation === first.operation && call.type === first.type && !call.isSingle && bytes + call.body.length <= MAX_BATCH_BYTES;
  while (!first.isSingle && count < Math.min(queue.length, MAX_BATCH) && fits(queue[count])) bytes += queue[count++].body.length;
  return queue.splice(0, count);
}

/** The bodies as one array. */
function joined(batch) {
  const bodies = batch.map(({ body }) => body);
  return typeof bodies[0] === "string" ? `[${bodies.join(",")}]` : Buffer.concat([arrayHead(bodies.length), ...bodies]);
}

module.exports = { Lanes };
