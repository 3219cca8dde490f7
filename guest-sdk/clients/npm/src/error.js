// Why a call failed.

"use strict";

/** A call that was refused, or got no answer in time. */
class EmitterError extends Error {
  name = "EmitterError";

  /** `fields`: `status`, `type` and `field` of the problem, `idempotencyKey`, and `cause`. */
  constructor(message, { cause, ...fields } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    Object.assign(this, fields);
  }
}

module.exports = { EmitterError };
