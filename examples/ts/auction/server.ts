// An auction: clients bid, timers close the lots, and a back office opens, closes and looks at them by the server API.
//
// The program keeps nothing in variables: any instance of any node can handle any event, and a deploy during the last seconds of a lot
// loses neither a bid nor the close.

import { type Client, all, config, on, onCustom, schedule } from "plugnode";
import * as lots from "./lots";

type Answer<T> = { ok: T } | { error: string };

/** A bid within this time before the end moves the end, so that others can answer it. */
const EXTENSION_MS = Number(config.extension ?? 10) * 1_000;
/** What is called before the end, and how many milliseconds before. */
const CALLS = [
  { before: 6_000, call: "going once" },
  { before: 3_000, call: "going twice" },
];

on("connection", (client, { auth }) => {
  const name = text((auth as { name?: unknown } | null | undefined)?.name, 32);
  client.set({ name: name ?? `guest ${client.id.slice(0, 4)}` });
  client.emit("lots", lots.all(), Date.now());
});

on("bid", (client, id?: unknown, amount?: unknown): Answer<lots.Lot> => {
  const lot = typeof id === "string" ? lots.find(id) : undefined;
  if (!lot) return { error: "there is no such lot" };
  // The timer's event may still be on its way.
  if (!lot.isOpen || Date.now() >= lot.ends) return { error: "the lot is closed" };
  if (!isPrice(amount)) return { error: "a bid is a whole number" };
  const least = lot.bids > 0 ? lot.price + 1 : lot.price;
  if (amount < least) return { error: `bid ${least} or more` };
  Object.assign(lot, { price: amount, bidder: nameOf(client), bids: lot.bids + 1 });
  if (lot.ends - Date.now() < EXTENSION_MS) endAt(lot, Date.now() + EXTENSION_MS);
  all.emit("lot", lot, Date.now());
  return { ok: lot };
});

// ---- Timers. A bid may have moved the end after a timer was due: then its event is for an end that is no longer that of the lot. ----

schedule.on("auction.call/1", ({ id, call, ends }: { id: string; call: string; ends: number }) => {
  const lot = lots.find(id);
  if (lot?.isOpen && lot.ends === ends) all.emit("call", id, call);
});

schedule.on("auction.end/1", ({ id, ends }: { id: string; ends: number }) => {
  const lot = lots.find(id);
  if (lot?.isOpen && lot.ends === ends) close(lot);
});

// ---- The back office, by `plugnode event` or POST /api/v1/event. What a listener returns is the answer. ----

onCustom("auction.open/1", ({ id, title, price, seconds }: Record<string, unknown>): Answer<lots.Lot> => {
  const name = text(title, 80);
  if (typeof id !== "string" || !/^[\w-]{1,40}$/.test(id)) return { error: "`id` has 1 to 40 letters, digits, - and _" };
  if (!name) return { error: "`title` has 1 to 80 characters" };
  if (!isPrice(price)) return { error: "`price` is a whole number" };
  if (typeof seconds !== "number" || !(seconds >= 1 && seconds <= 86_400)) return { error: "`seconds` is 1 to 86400" };
  if (lots.find(id)?.isOpen) return { error: `lot ${id} is open already` };
  const lot = lots.put({ id, title: name, price, bidder: null, bids: 0, ends: 0, isOpen: true });
  endAt(lot, Date.now() + Math.round(seconds * 1_000));
  all.emit("lot", lot, Date.now());
  return { ok: lot };
});

onCustom("auction.close/1", ({ id }: Record<string, unknown>): Answer<lots.Lot> => {
  const lot = typeof id === "string" ? lots.find(id) : undefined;
  if (!lot?.isOpen) return { error: "there is no such open lot" };
  close(lot);
  return { ok: lot };
});

onCustom("auction.state/1", () => lots.all());

// ---- The rest ----

/** Moves the end of a lot. Its timers replace those of the earlier end. */
function endAt(lot: lots.Lot, ends: number): void {
  lot.ends = ends;
  const { id } = lot;
  schedule.app.at(`end ${id}`, ends, "auction.end/1", { id, ends });
  for (const { before, call } of CALLS) {
    if (ends - before > Date.now()) schedule.app.at(`${call} ${id}`, ends - before, "auction.call/1", { id, call, ends });
    else schedule.app.cancel(`${call} ${id}`);
  }
}

function close(lot: lots.Lot): void {
  lot.isOpen = false;
  for (const name of ["end", ...CALLS.map(({ call }) => call)]) schedule.app.cancel(`${name} ${lot.id}`);
  all.emit("lot", lot, Date.now());
}

/** A text of one line and 1 to `max` characters; undefined if it is none. */
function text(given: unknown, max: number): string | undefined {
  if (typeof given !== "string") return undefined;
  const line = given.replace(/[\s\p{Cc}]+/gu, " ").trim();
  return line !== "" && [...line].length <= max ? line : undefined;
}

const isPrice = (given: unknown): given is number => Number.isSafeInteger(given) && (given as number) >= 1;

const nameOf = ({ attributes }: Client) => String(attributes.name);
