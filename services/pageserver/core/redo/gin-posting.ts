/** Redo of a change to the posting lists of a GIN leaf page. */
import { memory, move, PAGE, PAGE_BYTES, peek16, peek8, poke16, SCRATCH, SCRATCH_BYTES, TEMP_PAGE } from './arena.js';
import {
  GIN_COMPRESSED,
  ginCount,
  ginFlags,
  POSTING_DATA,
  POSTING_DATA_END_MAX,
  postingDataEnd,
  postingListBytes,
  setGinCount,
  setGinFlags,
  setPostingDataEnd,
} from './gin-page.js';
import { corruptPage } from './page.js';
import type { SlimRecord } from './slim-record.js';

const DELETE = 1;
const INSERT = 2;
const REPLACE = 3;
const ADD_ITEMS = 4;

const TID_BYTES = 6;
/** Row addresses as numbers, block * 2^11 + line: a line number has at most 11 bits. */
const LINE_SPAN = 2048;
/** More than a page of the shortest differences and a record of additions can name. */
const ROWS_MAX = 24 * 1024;
const oldRows = new Float64Array(ROWS_MAX);
const newRows = new Float64Array(ROWS_MAX);
const mergedRows = new Float64Array(ROWS_MAX);

function readRow(at: number): number {
  return (peek16(at) * 0x1_0000 + peek16(at + 2)) * LINE_SPAN + peek16(at + 4);
}

/** Decodes the posting list at `at` into oldRows; returns how many rows it has. */
function decodeList(at: number, bytes: number): number {
  const end = at + 8 + peek16(at + 6);
  if (end > at + bytes) throw corruptPage('a posting list is cut short');
  let row = readRow(at);
  let count = 0;
  oldRows[count++] = row;
  for (let from = at + 8; from < end;) {
    let difference = 0;
    let scale = 1;
    let byte: number;
    do {
      if (from === end || scale > 2 ** 42) throw corruptPage('a posting list is cut short');
      byte = peek8(from++);
      difference += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte & 0x80);
    row += difference;
    oldRows[count++] = row;
  }
  return count;
}

/** Encodes `count` of mergedRows into SCRATCH; returns the bytes of the list. */
function encodeList(count: number): number {
  const first = mergedRows[0]!;
  const block = Math.floor(first / LINE_SPAN);
  poke16(SCRATCH, block >>> 16);
  poke16(SCRATCH + 2, block & 0xffff);
  poke16(SCRATCH + 4, first % LINE_SPAN);
  let to = SCRATCH + 8;
  for (let i = 1; i < count; i++) {
    if (to + 8 > SCRATCH + SCRATCH_BYTES) throw corruptPage('a posting list does not fit on a page');
    let difference = mergedRows[i]! - mergedRows[i - 1]!;
    while (difference > 0x7f) {
      memory[to++] = 0x80 | (difference % 128);
      difference = Math.floor(difference / 128);
    }
    memory[to++] = difference;
  }
  const bytes = to - (SCRATCH + 8);
  poke16(SCRATCH + 6, bytes);
  if (bytes & 1) memory[to] = 0;
  return 8 + ((bytes + 1) & ~1);
}

/** Merges the ascending rows of oldRows and newRows, each once. */
function mergeRows(oldCount: number, newCount: number): number {
  let [o, n, count] = [0, 0, 0];
  while (o < oldCount || n < newCount) {
    const old = o < oldCount ? oldRows[o]! : Infinity;
    const added = n < newCount ? newRows[n]! : Infinity;
    if (count === ROWS_MAX) throw corruptPage('a posting list does not fit on a page');
    mergedRows[count++] = Math.min(old, added);
    if (old <= added) o++;
    if (added <= old) n++;
  }
  return count;
}

/** A page from before 9.4 holds plain row addresses: makes one list of them. */
function compressPage(): void {
  const count = ginCount();
  if (POSTING_DATA + count * TID_BYTES > POSTING_DATA_END_MAX) throw corruptPage(`${count} rows do not fit on a page`);
  for (let i = 0; i < count; i++) mergedRows[i] = readRow(POSTING_DATA + i * TID_BYTES);
  const bytes = count === 0 ? 0 : encodeList(count);
  move(POSTING_DATA, SCRATCH, bytes);
  setPostingDataEnd(POSTING_DATA + bytes);
  setGinFlags(ginFlags() | GIN_COMPRESSED);
  setGinCount(0);
}

/** Where the old lists are read and the new ones written. */
let readAt = 0;
let readEnd = 0;
let writeAt = 0;

function writeList(from: number, bytes: number): void {
  if (writeAt + bytes > POSTING_DATA_END_MAX) throw corruptPage('posting lists do not fit on the page');
  move(writeAt, from, bytes);
  writeAt += bytes;
}

/**
 * The change, in block data from `from` on: u16 actions, then for each u8 number of the old list it concerns, u8 kind; for insert and
 * replace a posting list; for additions u16 count and row addresses.
 */
export function recompress(record: SlimRecord, from: number): void {
  const end = record.dataAt + record.dataBytes;
  if (end - from < 2) throw corruptPage('actions on posting lists are cut short');
  if ((ginFlags() & GIN_COMPRESSED) === 0) compressPage();
  const dataEnd = postingDataEnd();
  move(TEMP_PAGE, PAGE, PAGE_BYTES);
  readAt = TEMP_PAGE + (POSTING_DATA - PAGE);
  readEnd = TEMP_PAGE + (dataEnd - PAGE);
  writeAt = POSTING_DATA;
  let list = 0;
  let at = from + 2;
  for (let action = peek16(from); action > 0; action--) {
    if (end - at < 2) throw corruptPage('actions on posting lists are cut short');
    const target = peek8(at);
    const kind = peek8(at + 1);
    for (; list < target; list++) keepList();
    at = applyAction(kind, at + 2, end);
    if (kind !== INSERT) list++;
  }
  writeList(readAt, readEnd - readAt);
  setPostingDataEnd(writeAt);
}

function keepList(): void {
  const bytes = postingListBytes(readAt, readEnd);
  writeList(readAt, bytes);
  readAt += bytes;
}

/** Returns the position behind the action's data. */
function applyAction(kind: number, at: number, end: number): number {
  const oldBytes = kind === INSERT ? 0 : postingListBytes(readAt, readEnd);
  let next = at;
  if (kind === INSERT || kind === REPLACE) {
    const bytes = postingListBytes(at, end);
    writeList(at, bytes);
    next = at + bytes;
  } else if (kind === ADD_ITEMS) {
    const count = end - at < 2 ? Infinity : peek16(at);
    if (at + 2 + count * TID_BYTES > end) throw corruptPage('rows for a posting list are cut short');
    for (let i = 0; i < count; i++) newRows[i] = readRow(at + 2 + i * TID_BYTES);
    writeList(SCRATCH, encodeList(mergeRows(decodeList(readAt, oldBytes), count)));
    next = at + 2 + count * TID_BYTES;
  } else if (kind !== DELETE) {
    throw corruptPage(`unknown action ${kind} on a posting list`);
  }
  readAt += oldBytes;
  return next;
}
