// One request of the server API, repeated until it has an answer: the same idempotency key each time, so that it takes effect once.

"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

const { EmitterError } = require("./error");

/** Milliseconds before the first repetition, and at most before any. */
const PAUSE = [100, 5_000];
/** Milliseconds for the answer to one request: a node gives up by itself before that. */
const PATIENCE = 20_000;
/** Milliseconds for the way to the node and back, and for the node to take the request in. */
const TRANSIT = 6_000;
/** The kinds of problems that pass. */
const PASSING = new Set(["urn:plugnode:api:unavailable", "urn:plugnode:api:too-fast", "urn:plugnode:api:body-timeout"]);
/** Answers of proxies in front of the API that pass. */
const PASSING_STATUS = new Set([408, 429, 500, 502, 503, 504]);

class Http {
  #urls;
  #key;
  #timeout;
  /** The next URL to use; it changes when one fails. */
  #current = 0;

  constructor({ url, key, timeout = 30_000 }) {
    const urls = [url].flat().map((one) => new URL("api/v1/", `${one}/`).href.replace(/\/+api/, "/api"));
    if (urls.length === 0) throw new TypeError("`url` is the address of the server API, such as http://127.0.0.1:9090");
    if (typeof key !== "string" || key === "") throw new TypeError("`key` is the secret of an [[api.key]]");
    if (!(timeout > 0)) throw new TypeError("`timeout` is a positive number of milliseconds");
    this.#urls = urls;
    this.#key = key;
    this.#timeout = timeout;
  }

  /** Returns the body of the answer. `wait` is the time that the request itself gives the node for its answer, in milliseconds. */
  async post(operation, { type, body, idempotencyKey, wait }) {
    const deadline = Date.now() + this.#timeout;
    const headers = { authorization: `Bearer ${this.#key}`, "content-type": type, accept: "application/json" };
    if (idempotencyKey !== undefined) headers["idempotency-key"] = idempotencyKey;
    for (let attempt = 0; ; attempt++) {
      const patience = wait === undefined ? Math.max(1_000, Math.min(deadline - Date.now(), PATIENCE)) : wait + TRANSIT;
      const failure = await this.#attempt(operation, { method: "POST", headers, body, redirect: "error" }, patience);
      if (failure.answer !== undefined) return failure.answer;
      const { error, retryAfter = 0 } = failure;
      const pause = Math.max(retryAfter, Math.min(PAUSE[1], PAUSE[0] * 2 ** attempt) * (0.5 + Math.random() / 2));
      if (!failure.passes || Date.now() + pause >= deadline) throw Object.assign(error, { idempotencyKey });
      this.#current = (this.#current + 1) % this.#urls.length;
      await sleep(pause);
    }
  }

  async #attempt(operation, request, patience) {
    const url = this.#urls[this.#current];
    let response, text;
    try {
      response = await fetch(url + operation, { ...request, signal: AbortSignal.timeout(patience) });
      text = await response.text();
    } catch (cause) {
      const reason = cause?.cause?.code ?? cause?.cause?.message ?? cause?.message;
      return { passes: true, error: new EmitterError(`no answer of the server API at ${url}: ${reason}`, { cause }) };
    }
    const answer = parsed(text);
    if (response.ok && answer !== undefined) return { answer };
    const { status } = response;
    const { type, detail, field } = answer ?? {};
    const isProblem = typeof type === "string" && type.startsWith("urn:plugnode:api:");
    const message = isProblem ? `${field ? `${field}: ` : ""}${detail}` : `${url}${operation} answers ${status}, which is no answer of a server API`;
    return {
      passes: isProblem ? PASSING.has(type) : PASSING_STATUS.has(status),
      retryAfter: Math.min(Number(response.headers.get("retry-after")) || 0, 60) * 1_000,
      error: new EmitterError(message, { status, ...(isProblem ? { type, field } : {}) }),
    };
  }
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : undefined;
  } catch {
    return undefined;
  }
}

module.exports = { Http };
