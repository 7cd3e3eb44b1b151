/**
 * Btree index tuples and posting lists.
 *
 *   0 u16 block high, u16 block low, u16 line   6 u16 info: size bits 0-12, alternative-meaning bit 13, …   8 key …
 *
 * With the alternative bit and 0x2000 in the line field it is a posting tuple: block is the offset of the list of row addresses
 * (6 bytes each) in the tuple, the low 12 bits of line their number. Without 0x2000 it is a pivot: block is the downlink (or
 * top parent), line the number of key columns.
 */
import { clear, move, peek16, poke16, SCRATCH, SCRATCH_BYTES, maxAlign } from './arena.js';
import { corruptPage } from './page.js';

export const TID_BYTES = 6;
export const TUPLE_HEADER_BYTES = 8;
const INFO = 6;
const SIZE_MASK = 0x1fff;
export const ALTERNATIVE_TID = 0x2000;
const IS_POSTING = 0x2000;
const COUNT_MASK = 0x0fff;

/** Place of a posting tuple in the making. */
const FORMED_TUPLE = SCRATCH;
/** Row addresses collected for it, behind a tuple of the largest size. */
const COLLECTED_TIDS = SCRATCH + SIZE_MASK + 1;
const COLLECTED_BYTES_MAX = SCRATCH_BYTES - (SIZE_MASK + 1);

let collectedBytes = 0;

export function tupleSize(tuple: number): number {
  return peek16(tuple + INFO) & SIZE_MASK;
}

export function isPosting(tuple: number): boolean {
  return (peek16(tuple + INFO) & ALTERNATIVE_TID) !== 0 && (peek16(tuple + 4) & IS_POSTING) !== 0;
}

/** Block field of the tuple's own address: downlink, top parent or posting offset. */
export function tupleBlock(tuple: number): number {
  return peek16(tuple) * 0x1_0000 + peek16(tuple + 2);
}

export function setTupleBlock(tuple: number, block: number): void {
  poke16(tuple, block >>> 16);
  poke16(tuple + 2, block & 0xffff);
}

export function postingCount(tuple: number): number {
  return peek16(tuple + 4) & COUNT_MASK;
}

/** Address of the list of a posting tuple of `tupleBytes` bytes; throws when the list does not lie inside. */
export function postingList(tuple: number, tupleBytes: number): number {
  const offset = tupleBlock(tuple);
  if (!isPosting(tuple) || offset < TUPLE_HEADER_BYTES || offset + TID_BYTES * postingCount(tuple) > tupleBytes) {
    throw corruptPage('posting list tuple expected');
  }
  return tuple + offset;
}

export function startCollecting(): void {
  collectedBytes = 0;
}

export function collectedCount(): number {
  return collectedBytes / TID_BYTES;
}

/** Adds `count` row addresses at `from` to those collected. */
export function collectTids(from: number, count: number): void {
  const bytes = count * TID_BYTES;
  if (collectedBytes + bytes > COLLECTED_BYTES_MAX) throw corruptPage('posting list does not fit on a page');
  move(COLLECTED_TIDS + collectedBytes, from, bytes);
  collectedBytes += bytes;
}

/** Adds the row addresses of a tuple of `tupleBytes` bytes: one, or its posting list. */
export function collectTuple(tuple: number, tupleBytes: number): void {
  if (isPosting(tuple)) collectTids(postingList(tuple, tupleBytes), postingCount(tuple));
  else collectTids(tuple, 1);
}

/** Makes a tuple of the key of `base` and the collected row addresses (a plain one if there is one); returns its address. */
export function formPosting(base: number, baseBytes: number): number {
  const count = collectedCount();
  const keyBytes = isPosting(base) ? postingList(base, baseBytes) - base : Math.min(tupleSize(base), baseBytes);
  const bytes = count > 1 ? maxAlign(keyBytes + collectedBytes) : keyBytes;
  if (count < 1 || bytes > SIZE_MASK || keyBytes < TUPLE_HEADER_BYTES)
    throw corruptPage(`posting list of ${count} rows is not possible`);
  clear(FORMED_TUPLE, bytes);
  move(FORMED_TUPLE, base, keyBytes);
  const info = (peek16(FORMED_TUPLE + INFO) & ~SIZE_MASK) | bytes;
  if (count > 1) {
    poke16(FORMED_TUPLE + INFO, info | ALTERNATIVE_TID);
    setTupleBlock(FORMED_TUPLE, keyBytes);
    poke16(FORMED_TUPLE + 4, count | IS_POSTING);
    move(FORMED_TUPLE + keyBytes, COLLECTED_TIDS, collectedBytes);
  } else {
    poke16(FORMED_TUPLE + INFO, info & ~ALTERNATIVE_TID);
    move(FORMED_TUPLE, COLLECTED_TIDS, TID_BYTES);
  }
  return FORMED_TUPLE;
}

/**
 * A new row falls inside a posting list: it takes place `at` of the list of `posting`, the list's later addresses move up by one, and
 * the list's old last address becomes that of the new tuple. Both tuples are changed in place.
 */
export function swapPosting(newTuple: number, posting: number, postingBytes: number, at: number): void {
  const list = postingList(posting, postingBytes);
  const count = postingCount(posting);
  if (at <= 0 || at >= count) throw corruptPage(`posting list of ${count} cannot be split at ${at}`);
  const place = list + at * TID_BYTES;
  const last = list + (count - 1) * TID_BYTES;
  move(COLLECTED_TIDS, last, TID_BYTES);
  move(place + TID_BYTES, place, last - place);
  move(place, newTuple, TID_BYTES);
  move(newTuple, COLLECTED_TIDS, TID_BYTES);
}

/** Writes a tuple without key at `at`: the high key of a half-dead page, whose block field names the top parent. */
export function writeTopParent(at: number, topParent: number): void {
  setTupleBlock(at, topParent);
  poke16(at + 4, 0);
  poke16(at + INFO, TUPLE_HEADER_BYTES | ALTERNATIVE_TID);
}
