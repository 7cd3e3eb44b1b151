/**
 * The slotted page and the operations on it that WAL records imply. Each leaves every byte as the server's own recovery leaves it,
 * free space included, so that pages can be compared unmasked.
 *
 *   0  u32 LSN high   4 u32 LSN low   8 u16 checksum   10 u16 flags (PD_*)   12 u16 lower   14 u16 upper   16 u16 special
 *   18 u16 page size 8192 | layout version 4   20 u32 prune xid
 *   24 u32 line pointers: offset bits 0-14, state bits 15-16 (LP_*), length bits 17-31
 *   [lower, upper) free   [upper, special) items, each rounded up to 8 bytes   [special, 8192) access method
 *
 * Line pointers are numbered from 1. Whatever does not fit together is a StorageError `corrupt`.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import {
  LP_NORMAL,
  LP_UNUSED,
  PAGE_HEADER_BYTES,
  PAGE_LAYOUT_VERSION,
  PD_FLAGS,
  PD_HAS_FREE_LINES,
  PD_LOWER,
  PD_LSN,
  PD_PAGESIZE_VERSION,
  PD_PRUNE_XID,
  PD_SPECIAL,
  PD_UPPER,
} from '#shared/postgres/page-layout.js';
import { xidFollows } from '#shared/postgres/slru.js';
import { clear, load16, load32, maxAlign, move, PAGE_BYTES, peek16, store16, store32, TEMP_PAGE } from './arena.js';

const HALF = 0x1_0000_0000;
/** As many line pointers as a page can hold. */
const LINES_MAX = (PAGE_BYTES - PAGE_HEADER_BYTES) / 4;

/** Items that keep their storage, in line pointer order, while a page is compacted. */
const keptLine = new Uint16Array(LINES_MAX);
const keptOffset = new Uint16Array(LINES_MAX);
const keptLength = new Uint16Array(LINES_MAX);
const keptWord = new Uint32Array(LINES_MAX);

export function corruptPage(what: string): StorageError {
  return new StorageError('corrupt', what);
}

export function isNewPage(page: number): boolean {
  return load16(page + PD_UPPER) === 0;
}

export function setPageLsn(page: number, lsn: Lsn): void {
  store32(page + PD_LSN, Math.floor(lsn / HALF));
  store32(page + PD_LSN + 4, lsn >>> 0);
}

export function pageLsn(page: number): Lsn {
  return (load32(page + PD_LSN) * HALF + load32(page + PD_LSN + 4)) as Lsn;
}

/** An empty page whose last `specialBytes`, rounded up to 8, belong to the access method; all else is zero. */
export function initPage(page: number, specialBytes: number): void {
  const special = PAGE_BYTES - maxAlign(specialBytes);
  clear(page, PAGE_BYTES);
  store16(page + PD_LOWER, PAGE_HEADER_BYTES);
  store16(page + PD_UPPER, special);
  store16(page + PD_SPECIAL, special);
  store16(page + PD_PAGESIZE_VERSION, PAGE_BYTES | PAGE_LAYOUT_VERSION);
}

export function clearPageFlag(page: number, flag: number): void {
  store16(page + PD_FLAGS, load16(page + PD_FLAGS) & ~flag);
}

export function setPageFlag(page: number, flag: number): void {
  store16(page + PD_FLAGS, load16(page + PD_FLAGS) | flag);
}

/** Lowers the prune hint to `xid`, in the circular order of xids. */
export function setPrunable(page: number, xid: number): void {
  const old = load32(page + PD_PRUNE_XID);
  if (old === 0 || xidFollows(old, xid)) store32(page + PD_PRUNE_XID, xid);
}

/** Throws unless the header's bounds are in order. */
export function checkPageHeader(page: number): void {
  const lower = load16(page + PD_LOWER);
  const upper = load16(page + PD_UPPER);
  const special = load16(page + PD_SPECIAL);
  if (lower < PAGE_HEADER_BYTES || lower > upper || upper > special || special > PAGE_BYTES || (special & 7) !== 0) {
    throw corruptPage(`page header is not possible: lower ${lower}, upper ${upper}, special ${special}`);
  }
}

/** Number of line pointers; 0 for a page that was never initialised. */
export function lineCount(page: number): number {
  const lower = load16(page + PD_LOWER);
  return lower <= PAGE_HEADER_BYTES || lower > PAGE_BYTES ? 0 : (lower - PAGE_HEADER_BYTES) >>> 2;
}

/** Address of a line pointer that need not exist. */
export function lineAddress(page: number, line: number): number {
  return page + PAGE_HEADER_BYTES - 4 + line * 4;
}

/** The line pointer's word; throws when there is no such line. */
export function lineWord(page: number, line: number): number {
  if (line < 1 || line > lineCount(page))
    throw corruptPage(`line pointer ${line} of ${lineCount(page)} does not exist`);
  return load32(lineAddress(page, line));
}

export function lineOffset(word: number): number {
  return word & 0x7fff;
}

export function lineState(word: number): number {
  return (word >>> 15) & 3;
}

export function lineLength(word: number): number {
  return word >>> 17;
}

export function makeLine(offset: number, state: number, length: number): number {
  return (offset | (state << 15) | (length << 17)) >>> 0;
}

export function setLine(page: number, line: number, word: number): void {
  if (line < 1 || line > lineCount(page))
    throw corruptPage(`line pointer ${line} of ${lineCount(page)} does not exist`);
  store32(lineAddress(page, line), word);
}

/** Address of the item at `line`: in use (or dead with storage), inside the page, at least `bytesMin` long. */
export function itemAddress(page: number, line: number, bytesMin: number): number {
  const word = lineWord(page, line);
  const offset = lineOffset(word);
  const length = lineLength(word);
  const badPlace = offset < PAGE_HEADER_BYTES || (offset & 7) !== 0 || offset + length > PAGE_BYTES;
  if (length < bytesMin || lineState(word) === LP_UNUSED || badPlace) {
    throw corruptPage(`item ${line} is not usable: state ${lineState(word)}, ${length} bytes at ${offset}`);
  }
  return page + offset;
}

/** Length of the item at `line`, as its line pointer says. */
export function itemLength(page: number, line: number): number {
  return lineLength(lineWord(page, line));
}

export const ADD_SHIFTING = 0;
/** The line must be new or unused; as heaps do, since their line numbers are row addresses. */
export const ADD_AT_UNUSED = 1;

/**
 * Makes room for an item of `bytes` bytes as line `line` and returns its address; the caller fills it. ADD_SHIFTING moves the lines
 * from `line` on up by one. The bytes of rounding behind the item stay as they were.
 */
export function reserveItem(page: number, bytes: number, line: number, mode: number): number {
  checkPageHeader(page);
  const limit = lineCount(page) + 1;
  if (line < 1 || line > limit) throw corruptPage(`cannot add item ${line} to a page of ${limit - 1} items`);
  const lower = load16(page + PD_LOWER);
  const addsLine = line === limit || mode === ADD_SHIFTING;
  // Unused and without storage: state and length bits are all zero.
  if (!addsLine && load32(lineAddress(page, line)) >>> 15 !== 0) throw corruptPage(`line pointer ${line} is in use`);
  const newLower = addsLine ? lower + 4 : lower;
  const newUpper = load16(page + PD_UPPER) - maxAlign(bytes);
  if (newLower > newUpper) throw corruptPage(`no room for an item of ${bytes} bytes`);
  if (addsLine && line < limit) move(lineAddress(page, line + 1), lineAddress(page, line), (limit - line) * 4);
  store32(lineAddress(page, line), makeLine(newUpper, LP_NORMAL, bytes));
  store16(page + PD_LOWER, newLower);
  store16(page + PD_UPPER, newUpper);
  return page + newUpper;
}

/** Inserts a copy of the item at `from` as line `line`; lines from there on move up by one. */
export function insertItem(page: number, from: number, bytes: number, line: number): void {
  move(reserveItem(page, bytes, line, ADD_SHIFTING), from, bytes);
}

/** Remembers an item that stays when the page is compacted; it must lie in the items area. */
function keepItem(page: number, kept: number, line: number, word: number): void {
  const offset = lineOffset(word);
  const length = lineLength(word);
  if (offset < load16(page + PD_UPPER) || offset + length > load16(page + PD_SPECIAL) || (offset & 7) !== 0) {
    throw corruptPage(`item ${line} of ${length} bytes at ${offset} lies outside the items area`);
  }
  keptLine[kept] = line;
  keptOffset[kept] = offset;
  keptLength[kept] = maxAlign(length);
  keptWord[kept] = word;
}

/**
 * Packs the kept items against the special area, the first line last. Items that already descend are moved in place, in runs;
 * others by way of a copy. Bytes below the new upper bound stay as they were.
 */
function packItems(page: number, count: number): void {
  const special = load16(page + PD_SPECIAL);
  let total = 0;
  let lowest = special;
  let descends = true;
  for (let i = 0; i < count; i++) {
    total += keptLength[i]!;
    if (keptOffset[i]! >= lowest) descends = false;
    else lowest = keptOffset[i]!;
  }
  if (!descends) for (let i = 0; i < count; i++) lowest = Math.min(lowest, keptOffset[i]!);
  if (total > special - load16(page + PD_LOWER)) throw corruptPage(`items of ${total} bytes do not fit on the page`);
  const source = descends ? page : TEMP_PAGE;
  if (!descends) move(TEMP_PAGE + lowest, page + lowest, special - lowest);

  let upper = special;
  for (let i = 0; i < count;) {
    // A run of items that lie one behind the other moves as a whole.
    const runEnd = keptOffset[i]! + keptLength[i]!;
    let runStart = runEnd;
    let runUpper = upper;
    for (; i < count && keptOffset[i]! + keptLength[i]! === runStart; i++) {
      runStart -= keptLength[i]!;
      runUpper -= keptLength[i]!;
      store32(lineAddress(page, keptLine[i]!), (keptWord[i]! & ~0x7fff) | runUpper);
    }
    if (source !== page || runUpper !== runStart) move(page + runUpper, source + runStart, runEnd - runStart);
    upper = runUpper;
  }
  store16(page + PD_UPPER, upper);
}

/** After pruning: packs the items, clears unused lines and keeps the hint about them. */
export function repairFragmentation(page: number): void {
  checkPageHeader(page);
  const count = lineCount(page);
  let kept = 0;
  let unused = 0;
  let lastUsed = 0;
  for (let line = 1; line <= count; line++) {
    const word = load32(lineAddress(page, line));
    if (lineState(word) === LP_UNUSED) {
      store32(lineAddress(page, line), 0);
      unused++;
      continue;
    }
    lastUsed = line;
    if (lineLength(word) !== 0) keepItem(page, kept++, line, word);
  }
  if (kept === 0) store16(page + PD_UPPER, load16(page + PD_SPECIAL));
  else packItems(page, kept);
  const trailing = count - lastUsed;
  if (trailing > 0) store16(page + PD_LOWER, load16(page + PD_LOWER) - 4 * trailing);
  if (unused > trailing) setPageFlag(page, PD_HAS_FREE_LINES);
  else clearPageFlag(page, PD_HAS_FREE_LINES);
}

/** After vacuum: cuts unused lines off the end, all but the first line, and keeps the hint about those that remain. */
export function truncateLines(page: number): void {
  checkPageHeader(page);
  let count = lineCount(page);
  const before = count;
  while (count > 1 && lineState(load32(lineAddress(page, count))) === LP_UNUSED) count--;
  let hasUnused = false;
  for (let line = 1; line <= count && !hasUnused; line++) {
    hasUnused = lineState(load32(lineAddress(page, line))) === LP_UNUSED;
  }
  store16(page + PD_LOWER, load16(page + PD_LOWER) - 4 * (before - count));
  if (hasUnused) setPageFlag(page, PD_HAS_FREE_LINES);
  else clearPageFlag(page, PD_HAS_FREE_LINES);
}

/** Adds `delta` to the offset of every item at or below `offset`. */
function shiftItems(page: number, offset: number, delta: number): void {
  const count = lineCount(page);
  for (let line = 1; line <= count; line++) {
    const word = load32(lineAddress(page, line));
    if (lineLength(word) !== 0 && lineOffset(word) <= offset) store32(lineAddress(page, line), word + delta);
  }
}

/** Removes line and item: later lines move down by one, items below move up. */
export function deleteIndexItem(page: number, line: number): void {
  checkPageHeader(page);
  const address = itemAddress(page, line, 1);
  const offset = address - page;
  const length = maxAlign(itemLength(page, line));
  const count = lineCount(page);
  const upper = load16(page + PD_UPPER);
  if (offset < upper || offset + length > load16(page + PD_SPECIAL))
    throw corruptPage(`item ${line} lies outside the items area`);
  move(lineAddress(page, line), lineAddress(page, line + 1), (count - line) * 4);
  if (offset > upper) move(page + upper + length, page + upper, offset - upper);
  store16(page + PD_UPPER, upper + length);
  store16(page + PD_LOWER, load16(page + PD_LOWER) - 4);
  shiftItems(page, offset, length);
}

/** Removes the item but keeps the numbers of all others: its line becomes unused, or goes away if it is the last. */
export function deleteIndexItemKeepingLines(page: number, line: number): void {
  checkPageHeader(page);
  const offset = itemAddress(page, line, 1) - page;
  const length = maxAlign(itemLength(page, line));
  const upper = load16(page + PD_UPPER);
  if (offset < upper || offset + length > load16(page + PD_SPECIAL)) {
    throw corruptPage(`item ${line} lies outside the items area`);
  }
  if (line < lineCount(page)) store32(lineAddress(page, line), 0);
  else store16(page + PD_LOWER, load16(page + PD_LOWER) - 4);
  if (offset > upper) move(page + upper + length, page + upper, offset - upper);
  store16(page + PD_UPPER, upper + length);
  shiftItems(page, offset, length);
}

/** One or two are cut out singly, the last first; more by packing what remains. The bytes left in free space depend on it. */
const SINGLE_DELETES_MAX = 2;

/** Removes the lines whose numbers stand, ascending, as `count` u16 at `numbersAt` (any alignment). */
export function deleteIndexItems(page: number, numbersAt: number, count: number): void {
  if (count <= SINGLE_DELETES_MAX) {
    for (let i = count - 1; i >= 0; i--) deleteIndexItem(page, peek16(numbersAt + 2 * i));
    return;
  }
  checkPageHeader(page);
  const lines = lineCount(page);
  let kept = 0;
  let next = 0;
  for (let line = 1; line <= lines; line++) {
    if (next < count && peek16(numbersAt + 2 * next) === line) {
      next++;
      continue;
    }
    keepItem(page, kept, line, load32(lineAddress(page, line)));
    keptLine[kept] = kept + 1;
    kept++;
  }
  if (next !== count) throw corruptPage(`cannot delete ${count} items: numbers are not ascending or do not exist`);
  store16(page + PD_LOWER, PAGE_HEADER_BYTES + 4 * kept);
  if (kept > 0) packItems(page, kept);
  else store16(page + PD_UPPER, load16(page + PD_SPECIAL));
}

/** Replaces the item at `line` by the one at `from`; items below it move when the rounded length differs. */
export function overwriteIndexItem(page: number, line: number, from: number, bytes: number): void {
  checkPageHeader(page);
  const offset = itemAddress(page, line, 1) - page;
  const upper = load16(page + PD_UPPER);
  const delta = maxAlign(itemLength(page, line)) - maxAlign(bytes);
  if (offset < upper || upper + delta < load16(page + PD_LOWER)) {
    throw corruptPage(`no room to replace item ${line} by ${bytes} bytes`);
  }
  if (delta !== 0) {
    move(page + upper + delta, page + upper, offset - upper);
    store16(page + PD_UPPER, upper + delta);
    shiftItems(page, offset, delta);
  }
  store32(lineAddress(page, line), makeLine(offset + delta, lineState(lineWord(page, line)), bytes));
  move(page + offset + delta, from, bytes);
}

/** Makes TEMP_PAGE an empty page with the special area of `page`. */
export function startTempPage(page: number): void {
  checkPageHeader(page);
  const special = load16(page + PD_SPECIAL);
  initPage(TEMP_PAGE, PAGE_BYTES - special);
  move(TEMP_PAGE + special, page + special, PAGE_BYTES - special);
}

/** Puts TEMP_PAGE in the place of `page`. */
export function restoreTempPage(page: number): void {
  move(page, TEMP_PAGE, PAGE_BYTES);
}
