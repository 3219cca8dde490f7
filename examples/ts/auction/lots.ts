// The lots: each is a separate object in the key-value store, so that events of different lots never conflict.

import { kv, state } from "plugnode";

/** A lot, as clients receive it. */
export interface Lot {
  id: string;
  title: string;
  /** The highest bid, or the lowest that is accepted as the first one. */
  price: number;
  /** The name of the highest bidder; null before the first bid. */
  bidder: string | null;
  bids: number;
  /** In milliseconds since 1970. */
  ends: number;
  isOpen: boolean;
}

const PREFIX = "lot:";

/** The lot with this id. What the event changes in it is stored when the event ends. */
export function find(id: string): Lot | undefined {
  const lot = slot(id);
  return lot.id === undefined ? undefined : lot;
}

/** Stores a new lot, in place of an earlier one with its id. */
export function put(lot: Lot): Lot {
  return Object.assign(slot(lot.id), lot);
}

export function all(): Lot[] {
  const lots = kv.keys(PREFIX).map((key) => find(key.slice(PREFIX.length)));
  return lots.filter((lot) => lot !== undefined).sort((one, other) => one.ends - other.ends);
}

const slot = (id: string) => state<Lot | { id?: undefined }>(PREFIX + id, {});
