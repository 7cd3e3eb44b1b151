/**
 * Btree pages: the special area, the meta page, and making a page anew.
 *
 *   special area, 16 bytes   0 u32 left sibling   4 u32 right sibling   8 u32 level   12 u16 flags   14 u16 vacuum cycle
 *   meta page, behind the header   0 u32 magic   4 u32 version   8 u32 root   12 u32 level   16 u32 fast root   20 u32 fast level
 *                                  24 u32 deleted pages at last cleanup   32 f64 -1   40 u8 all keys are equal-image
 */
import { PAGE_HEADER_BYTES, PD_LOWER, PD_SPECIAL } from '#shared/postgres/page-layout.js';
import {
  load16,
  load32,
  maxAlign,
  memory,
  PAGE,
  PAGE_BYTES,
  peek32,
  peek8,
  pokeFloat64,
  store16,
  store32,
} from './arena.js';
import { tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import { corruptPage, initPage, insertItem } from './page.js';
import type { SlimRecord } from './slim-record.js';

const SPECIAL_BYTES = 16;
const LEFT = 0;
const RIGHT = 4;
const LEVEL = 8;
const FLAGS = 12;

export const BTP_LEAF = 0x0001;
export const BTP_ROOT = 0x0002;
export const BTP_DELETED = 0x0004;
const BTP_META = 0x0008;
export const BTP_HALF_DEAD = 0x0010;
export const BTP_HAS_GARBAGE = 0x0040;
export const BTP_INCOMPLETE_SPLIT = 0x0080;
export const BTP_HAS_FULLXID = 0x0100;

const MAGIC = 0x0005_3162;
const META_STRUCT_BYTES = 48;
const META_RECORD_BYTES = 25;

/** Items of a page that a record carries, in front to back order. */
const itemStart = new Uint32Array(PAGE_BYTES / TUPLE_HEADER_BYTES);

/** Address of the special area; throws when the page is not a btree page. */
function special(page: number): number {
  const offset = load16(page + PD_SPECIAL);
  if (offset !== PAGE_BYTES - SPECIAL_BYTES) throw corruptPage(`not a btree page: special area at ${offset}`);
  return page + offset;
}

export function rightSibling(page: number): number {
  return load32(special(page) + RIGHT);
}

export function setLeftSibling(page: number, block: number): void {
  store32(special(page) + LEFT, block);
}

export function setRightSibling(page: number, block: number): void {
  store32(special(page) + RIGHT, block);
}

/** Sets the flags and clears the vacuum cycle, as a split does. */
export function resetFlags(page: number, flags: number): void {
  store16(special(page) + FLAGS, flags);
  store16(special(page) + FLAGS + 2, 0);
}

export function clearFlag(page: number, flag: number): void {
  const at = special(page) + FLAGS;
  store16(at, load16(at) & ~flag);
}

/** First line of a row or downlink: the page's high key, if it has a right sibling, is line 1. */
export function firstDataLine(page: number): number {
  return rightSibling(page) === 0 ? 1 : 2;
}

export function initBtreePage(left: number, right: number, level: number, flags: number): void {
  initPage(PAGE, SPECIAL_BYTES);
  const at = special(PAGE);
  store32(at + LEFT, left);
  store32(at + RIGHT, right);
  store32(at + LEVEL, level);
  store16(at + FLAGS, flags);
}

/** Fills the page with the tuples in [from, end): the last is line 1, so that each comes to lie where it was on its old page. */
export function restoreItems(from: number, end: number): void {
  let count = 0;
  for (let at = from; at < end;) {
    if (end - at < TUPLE_HEADER_BYTES || count === itemStart.length) throw corruptPage('page contents are cut short');
    const bytes = maxAlign(tupleSize(at));
    if (bytes < TUPLE_HEADER_BYTES || bytes > end - at) throw corruptPage('page contents are cut short');
    itemStart[count++] = at;
    at += bytes;
  }
  for (let i = count - 1; i >= 0; i--) {
    insertItem(PAGE, itemStart[i]!, maxAlign(tupleSize(itemStart[i]!)), count - i);
  }
}

/** Makes the meta page from the block data: u32 version, root, level, fast root, fast level, deleted pages; u8 equal-image. */
export function restoreMetaPage(record: SlimRecord): void {
  record.needData(META_RECORD_BYTES);
  initBtreePage(0, 0, 0, BTP_META);
  const meta = PAGE + PAGE_HEADER_BYTES;
  store32(meta, MAGIC);
  for (let i = 0; i < 6; i++) store32(meta + 4 + 4 * i, peek32(record.dataAt + 4 * i));
  pokeFloat64(meta + 32, -1);
  memory[meta + 40] = peek8(record.dataAt + 24);
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + META_STRUCT_BYTES);
}
