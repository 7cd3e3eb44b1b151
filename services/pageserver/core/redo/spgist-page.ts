/**
 * Pages and tuples of SP-GiST indexes.
 *
 *   special area, 8 bytes   0 u16 flags   2 u16 redirections   4 u16 placeholders   6 u16 0xff82
 *   leaf tuple              0 u32 state bits 0-1, size bits 2-31   4 u16 next line of the chain, bits 0-13   6 row address   …
 *   dead tuple, 16 bytes    as a leaf tuple; 6 where a redirection leads, else invalid   12 u32 xid of the redirection
 *   inner tuple             0 u32 state bits 0-1, nodes bits 3-15, prefix size bits 16-31   4 u16 size   8 prefix, then nodes
 *   node                    an index tuple whose address is the downlink
 */
import { PD_SPECIAL } from '#shared/postgres/page-layout.js';
import {
  load16,
  load32,
  memory,
  PAGE,
  PAGE_BYTES,
  peek16,
  peek32,
  poke16,
  poke32,
  SCRATCH,
  store16,
  store32,
} from './arena.js';
import { setTupleBlock, tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import {
  corruptPage,
  deleteIndexItem,
  deleteIndexItems,
  initPage,
  insertItem,
  itemAddress,
  itemLength,
  lineCount,
} from './page.js';

export const LEAF = 0x0004;
export const NULLS = 0x0008;
const PAGE_ID = 0xff82;
const SPECIAL_BYTES = 8;

export const REDIRECT = 1;
export const DEAD = 2;
export const PLACEHOLDER = 3;

const DEAD_TUPLE_BYTES = 16;
const INNER_HEADER_BYTES = 8;
const NEXT_MASK = 0x3fff;
const NO_BLOCK = 0xffff_ffff;

const DEAD_TUPLE = SCRATCH;
const SORTED_LINES = SCRATCH + DEAD_TUPLE_BYTES;
const LINES_MAX = PAGE_BYTES / 4;
const sorted = new Uint16Array(memory.buffer, SORTED_LINES, LINES_MAX);

/** Where a downlink or redirection leads. */
export interface Target {
  block: number;
  line: number;
}

export const NOWHERE: Readonly<Target> = { block: NO_BLOCK, line: 0 };

function special(): number {
  const offset = load16(PAGE + PD_SPECIAL);
  if (offset !== PAGE_BYTES - SPECIAL_BYTES) throw corruptPage(`not an SP-GiST page: special area at ${offset}`);
  return PAGE + offset;
}

export function initSpgistPage(flags: number): void {
  initPage(PAGE, SPECIAL_BYTES);
  store16(special(), flags);
  store16(special() + 6, PAGE_ID);
}

export function countRedirections(delta: number): void {
  store16(special() + 2, load16(special() + 2) + delta);
}

export function countPlaceholders(delta: number): void {
  store16(special() + 4, load16(special() + 4) + delta);
}

export function leafTupleSize(tuple: number): number {
  return peek32(tuple) >>> 2;
}

export function innerTupleSize(tuple: number): number {
  return peek16(tuple + 4);
}

/** As line `line`, in the place of a placeholder if there is such a line. */
export function addOrReplace(tuple: number, bytes: number, line: number): void {
  if (line <= lineCount(PAGE)) {
    const old = itemAddress(PAGE, line, DEAD_TUPLE_BYTES);
    if ((load32(old) & 3) !== PLACEHOLDER) throw corruptPage(`tuple ${line} is not a placeholder`);
    countPlaceholders(-1);
    deleteIndexItem(PAGE, line);
  }
  insertItem(PAGE, tuple, bytes, line);
}

export function replaceTuple(tuple: number, bytes: number, line: number): void {
  deleteIndexItem(PAGE, line);
  insertItem(PAGE, tuple, bytes, line);
}

/** Puts a tuple of that state in the place of the one at `line`, which must be gone from the line pointers. */
function insertDead(line: number, state: number, xid: number, target: Readonly<Target>): void {
  const redirects = state === REDIRECT;
  const to = redirects ? target : NOWHERE;
  poke32(DEAD_TUPLE, (DEAD_TUPLE_BYTES << 2) | state);
  poke16(DEAD_TUPLE + 4, 0);
  setTupleBlock(DEAD_TUPLE + 6, to.block);
  poke16(DEAD_TUPLE + 10, to.line);
  poke32(DEAD_TUPLE + 12, redirects ? xid : 0);
  insertItem(PAGE, DEAD_TUPLE, DEAD_TUPLE_BYTES, line);
  if (redirects) countRedirections(1);
  else if (state === PLACEHOLDER) countPlaceholders(1);
}

export function replaceByDead(line: number, state: number, xid: number, target: Readonly<Target>): void {
  deleteIndexItem(PAGE, line);
  insertDead(line, state, xid, target);
}

/**
 * Replaces the tuples at the u16 lines at `linesAt`, in any order, by dead ones: that of the first line listed gets `firstState`, the
 * others `restState`.
 */
export function replaceAllByDead(
  linesAt: number,
  count: number,
  states: { first: number; rest: number },
  xid: number,
  target: Readonly<Target>,
): void {
  if (count === 0) return;
  if (count > LINES_MAX) throw corruptPage(`${count} tuples are more than a page has`);
  for (let i = 0; i < count; i++) sorted[i] = peek16(linesAt + 2 * i);
  sorted.subarray(0, count).sort();
  deleteIndexItems(PAGE, SORTED_LINES, count);
  const first = peek16(linesAt);
  for (let i = 0; i < count; i++) {
    const line = sorted[i]!;
    insertDead(line, line === first ? states.first : states.rest, xid, target);
  }
}

export function setNextInChain(line: number, next: number): void {
  const tuple = itemAddress(PAGE, line, DEAD_TUPLE_BYTES);
  store16(tuple + 4, (load16(tuple + 4) & ~NEXT_MASK) | (next & NEXT_MASK));
}

/** Makes redirection `line` a placeholder; its xid stays. The counts are the caller's. */
export function redirectionToPlaceholder(line: number): void {
  const tuple = itemAddress(PAGE, line, DEAD_TUPLE_BYTES);
  store32(tuple, (load32(tuple) & ~3) | PLACEHOLDER);
  setTupleBlock(tuple + 6, NOWHERE.block);
  poke16(tuple + 10, NOWHERE.line);
}

/** Removes the lines from `first` on. */
export function removePlaceholdersFrom(first: number): void {
  const count = lineCount(PAGE) - first + 1;
  if (first < 1 || count < 1) throw corruptPage(`no placeholders from ${first} on`);
  for (let i = 0; i < count; i++) sorted[i] = first + i;
  countPlaceholders(-count);
  deleteIndexItems(PAGE, SORTED_LINES, count);
}

/** Exchanges two line pointers. */
export function swapLines(lineAddressA: number, lineAddressB: number): void {
  const word = load32(lineAddressA);
  store32(lineAddressA, load32(lineAddressB));
  store32(lineAddressB, word);
}

/** Points node `node` of the inner tuple at `line` to `target`. */
export function setDownlink(line: number, node: number, target: Readonly<Target>): void {
  const tuple = itemAddress(PAGE, line, INNER_HEADER_BYTES);
  const end = tuple + itemLength(PAGE, line);
  const header = load32(tuple);
  let at = tuple + INNER_HEADER_BYTES + (header >>> 16);
  if (node >= ((header >>> 3) & 0x1fff)) throw corruptPage(`inner tuple ${line} has no node ${node}`);
  for (let i = 0; i <= node; i++) {
    if (at + TUPLE_HEADER_BYTES > end || tupleSize(at) < TUPLE_HEADER_BYTES) {
      throw corruptPage(`inner tuple ${line} is cut short`);
    }
    if (i < node) at += tupleSize(at);
  }
  setTupleBlock(at, target.block);
  poke16(at + 4, target.line);
}
