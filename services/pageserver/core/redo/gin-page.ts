/**
 * Pages of GIN indexes.
 *
 *   special area, 8 bytes             0 u32 right link   4 u16 items (internal posting tree page) or rows (pending list)   6 u16 flags
 *   posting tree page, behind header  0 right bound, 6 bytes and 2 pad
 *                                     8 internal: items of u16 u16 child block, 6 bytes key; leaf: compressed posting lists
 *   posting list                      0 first row address   6 u16 bytes that follow   8 differences, 7 bits a byte, lowest first
 *   meta page, behind header          56 bytes, as records carry them
 *
 * Lower is the end of what a posting tree page or the meta page holds.
 */
import { PAGE_HEADER_BYTES, PD_LOWER, PD_SPECIAL } from '#shared/postgres/page-layout.js';
import { load16, move, PAGE, PAGE_BYTES, peek16, poke16, store16, store32 } from './arena.js';
import { corruptPage, initPage } from './page.js';

export const GIN_DATA = 0x0001;
export const GIN_LEAF = 0x0002;
export const GIN_DELETED = 0x0004;
const GIN_META = 0x0008;
export const GIN_LIST = 0x0010;
export const GIN_LIST_FULLROW = 0x0020;
export const GIN_INCOMPLETE_SPLIT = 0x0040;
export const GIN_COMPRESSED = 0x0080;

const SPECIAL_BYTES = 8;
const NO_PAGE = 0xffff_ffff;
export const META_BYTES = 56;
const ITEM_BYTES = 10;

/** Posting lists or posting items begin here. */
export const POSTING_DATA = PAGE + PAGE_HEADER_BYTES + 8;
export const POSTING_DATA_END_MAX = PAGE + PAGE_BYTES - SPECIAL_BYTES;

function special(): number {
  const offset = load16(PAGE + PD_SPECIAL);
  if (offset !== PAGE_BYTES - SPECIAL_BYTES) throw corruptPage(`not a GIN page: special area at ${offset}`);
  return PAGE + offset;
}

export function initGinPage(flags: number): void {
  initPage(PAGE, SPECIAL_BYTES);
  store32(special(), NO_PAGE);
  store16(special() + 6, flags);
}

export function ginFlags(): number {
  return load16(special() + 6);
}

export function setGinFlags(flags: number): void {
  store16(special() + 6, flags);
}

export function setRightLink(block: number): void {
  store32(special(), block);
}

export function ginCount(): number {
  return load16(special() + 4);
}

export function setGinCount(count: number): void {
  store16(special() + 4, count);
}

/** Makes the meta page from its 56 bytes at `from`. */
export function restoreGinMeta(from: number): void {
  initGinPage(GIN_META);
  move(PAGE + PAGE_HEADER_BYTES, from, META_BYTES);
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + META_BYTES);
}

/** End of the posting lists or items. */
export function postingDataEnd(): number {
  const end = PAGE + load16(PAGE + PD_LOWER);
  if (end < POSTING_DATA || end > POSTING_DATA_END_MAX) throw corruptPage(`posting data ends at ${end - PAGE}`);
  return end;
}

export function setPostingDataEnd(end: number): void {
  store16(PAGE + PD_LOWER, end - PAGE);
}

function itemAt(number: number): number {
  return POSTING_DATA + (number - 1) * ITEM_BYTES;
}

function checkItem(number: number, max: number): void {
  if (number < 1 || number > max || itemAt(ginCount() + 1) > POSTING_DATA_END_MAX) {
    throw corruptPage(`posting item ${number} of ${ginCount()} does not exist`);
  }
}

/** After a split: item `number` now leads to the right half, and the item at `from`, for the left half, comes before it. */
export function insertPostingItem(number: number, rightBlock: number, from: number): void {
  const count = ginCount();
  checkItem(number, count);
  const at = itemAt(number);
  if (itemAt(count + 2) > POSTING_DATA_END_MAX) throw corruptPage('no room for a posting item');
  poke16(at, rightBlock >>> 16);
  poke16(at + 2, rightBlock & 0xffff);
  move(at + ITEM_BYTES, at, (count - number + 1) * ITEM_BYTES);
  move(at, from, ITEM_BYTES);
  setGinCount(count + 1);
  setPostingDataEnd(itemAt(count + 2));
}

export function deletePostingItem(number: number): void {
  const count = ginCount();
  checkItem(number, count);
  move(itemAt(number), itemAt(number + 1), (count - number) * ITEM_BYTES);
  setGinCount(count - 1);
  setPostingDataEnd(itemAt(count));
}

/** Bytes of the posting list at `at`, which must end before `end`. */
export function postingListBytes(at: number, end: number): number {
  const bytes = end - at < 8 ? Infinity : 8 + ((peek16(at + 6) + 1) & ~1);
  if (bytes > end - at) throw corruptPage('a posting list is cut short');
  return bytes;
}
