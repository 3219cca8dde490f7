// What may be said, and who may be called what.

export const NAME_RULE = "a name has 1 to 32 characters";
export const BODY_RULE = "a message is a text of 1 to 2000 characters";

/** A name on one line with single spaces. */
export function name(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  return within(given.split(/[\p{White_Space}\p{Cc}]+/u).filter(Boolean).join(" "), 32);
}

/** A message without blank ends and control characters. */
export function body(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  const trimmed = given.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
  return within(trimmed.replace(/[^\P{Cc}\n]/gu, ""), 2000);
}

const within = (text: string, most: number) => (text !== "" && [...text].length <= most ? text : undefined);
