/**
 * The heap row header and the changes that WAL records make to it.
 *
 *   0 u32 xmin   4 u32 xmax   8 u32 command id (or old-style vacuum xid)   12 u16 block high, u16 block low, u16 line: next version
 *   18 u16 infomask2   20 u16 infomask   22 u8 header length   23 null bitmap …
 */
import { LP_NORMAL } from '#shared/postgres/page-layout.js';
import { load16, memory, peek16, peek8, store16, store32 } from './arena.js';
import { corruptPage, itemAddress, lineState, lineWord } from './page.js';

export const HEADER_BYTES = 23;
export const XMIN = 0;
export const XMAX = 4;
export const FIELD3 = 8;
const CTID = 12;
export const INFOMASK2 = 18;
export const INFOMASK = 20;
export const HOFF = 22;

const XMAX_KEYSHR_LOCK = 0x0010;
export const COMBOCID = 0x0020;
const XMAX_EXCL_LOCK = 0x0040;
const XMAX_LOCK_ONLY = 0x0080;
const XMAX_IS_MULTI = 0x1000;
const LOCK_MASK = XMAX_KEYSHR_LOCK | XMAX_EXCL_LOCK;
/** xmax committed, invalid, multi, lock strength; moved by an old VACUUM FULL. */
const XMAX_BITS = 0x0400 | 0x0800 | XMAX_IS_MULTI | LOCK_MASK | XMAX_LOCK_ONLY;
const MOVED = 0xc000;

const KEYS_UPDATED = 0x2000;
export const HOT_UPDATED = 0x4000;

/** Bits of "infobits" in records, and the infomask bits they stand for. */
const INFOBIT_IS_MULTI = 0x01;
const INFOBIT_LOCK_ONLY = 0x02;
const INFOBIT_EXCL_LOCK = 0x04;
const INFOBIT_KEYSHR_LOCK = 0x08;
const INFOBIT_KEYS_UPDATED = 0x10;

/** Address of the row at `line`, which must be a normal one. */
export function heapTuple(page: number, line: number): number {
  const state = lineState(lineWord(page, line));
  if (state !== LP_NORMAL) throw corruptPage(`row ${line} is not there: line pointer state ${state}`);
  return itemAddress(page, line, HEADER_BYTES);
}

export function setNextVersion(tuple: number, block: number, line: number): void {
  store16(tuple + CTID, block >>> 16);
  store16(tuple + CTID + 2, block);
  store16(tuple + CTID + 4, line);
}

/** Replaces what is known about xmax by the record's infobits. */
export function setXmaxBits(tuple: number, infobits: number): void {
  let mask = load16(tuple + INFOMASK) & ~(XMAX_BITS | MOVED);
  let mask2 = load16(tuple + INFOMASK2) & ~KEYS_UPDATED;
  if (infobits & INFOBIT_IS_MULTI) mask |= XMAX_IS_MULTI;
  if (infobits & INFOBIT_LOCK_ONLY) mask |= XMAX_LOCK_ONLY;
  if (infobits & INFOBIT_EXCL_LOCK) mask |= XMAX_EXCL_LOCK;
  if (infobits & INFOBIT_KEYSHR_LOCK) mask |= XMAX_KEYSHR_LOCK;
  if (infobits & INFOBIT_KEYS_UPDATED) mask2 |= KEYS_UPDATED;
  store16(tuple + INFOMASK, mask);
  store16(tuple + INFOMASK2, mask2);
}

/** Whether xmax only locks the row, by the bits just set; an exclusive lock without the bit is one from before 9.3. */
export function isLockedOnly(tuple: number): boolean {
  const mask = load16(tuple + INFOMASK);
  return (mask & XMAX_LOCK_ONLY) !== 0 || (mask & (XMAX_IS_MULTI | LOCK_MASK)) === XMAX_EXCL_LOCK;
}

/** Redo knows no command ids: all are the first of their transaction. */
export function clearCommandId(tuple: number): void {
  store32(tuple + FIELD3, 0);
  store16(tuple + INFOMASK, load16(tuple + INFOMASK) & ~COMBOCID);
}

export function clearHotUpdated(tuple: number): void {
  store16(tuple + INFOMASK2, load16(tuple + INFOMASK2) & ~HOT_UPDATED);
}

export function setHotUpdated(tuple: number): void {
  store16(tuple + INFOMASK2, load16(tuple + INFOMASK2) | HOT_UPDATED);
}

/** Fields of a row that a record carries: u16 infomask2, u16 infomask, u8 header length. */
export const WAL_HEADER_BYTES = 5;

/** Makes a row's header from the fields at `from`; nobody has locked or seen the row yet. */
export function writeTupleHeader(tuple: number, from: number, xmin: number, xmax: number): void {
  store32(tuple + XMIN, xmin);
  store32(tuple + XMAX, xmax);
  store32(tuple + FIELD3, 0);
  store16(tuple + INFOMASK2, peek16(from));
  store16(tuple + INFOMASK, peek16(from + 2) & ~COMBOCID);
  memory[tuple + HOFF] = peek8(from + 4);
}
