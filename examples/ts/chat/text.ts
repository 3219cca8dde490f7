// Validation of names and messages.

export const NAME_RULE = "a name has 1 to 32 characters";
export const BODY_RULE = "a message is a text of 1 to 2000 characters";

/** Normalizes a name to one line with single spaces. Undefined if it breaks the rule. */
export function normalizeName(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  return within(given.split(/[\p{White_Space}\p{Cc}]+/u).filter(Boolean).join(" "), 32);
}

/** Trims a message and removes control characters. Undefined if it breaks the rule. */
export function normalizeBody(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  const trimmed = given.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
  return within(trimmed.replace(/[^\P{Cc}\n]/gu, ""), 2000);
}

const within = (text: string, max: number) => (text !== "" && [...text].length <= max ? text : undefined);
