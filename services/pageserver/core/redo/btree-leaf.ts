/** Redo of changes inside one btree leaf page: posting list splits, merging of equal keys, deletion of rows. */
import { maxAlign, PAGE, peek16, TEMP_PAGE } from './arena.js';
import { BTP_HAS_GARBAGE, clearFlag, firstDataLine } from './btree-page.js';
import {
  collectedCount,
  collectTids,
  collectTuple,
  formPosting,
  postingCount,
  postingList,
  startCollecting,
  swapPosting,
  TID_BYTES,
  tupleSize,
  TUPLE_HEADER_BYTES,
} from './btree-tuple.js';
import {
  corruptPage,
  deleteIndexItems,
  insertItem,
  itemAddress,
  itemLength,
  lineCount,
  overwriteIndexItem,
  restoreTempPage,
  startTempPage,
} from './page.js';
import type { SlimRecord } from './slim-record.js';

/** Main data: u16 line. Block data: u16 place in the posting list of the line before, then the new tuple. */
export function redoBtreeInsertPosting(record: SlimRecord): void {
  record.needMain(2);
  record.needData(2 + TUPLE_HEADER_BYTES);
  const line = peek16(record.mainAt);
  const tuple = record.dataAt + 2;
  if (tupleSize(tuple) !== record.dataBytes - 2) throw corruptPage('new tuple is cut short');
  const posting = itemAddress(PAGE, line - 1, TUPLE_HEADER_BYTES);
  swapPosting(tuple, posting, itemLength(PAGE, line - 1), peek16(record.dataAt));
  insertItem(PAGE, tuple, tupleSize(tuple), line);
}

/**
 * Main data: u16 count of intervals. Block data: for each u16 first line, u16 number of tuples that become one. The page is built
 * anew; tuples outside the intervals are copied.
 */
export function redoBtreeDedup(record: SlimRecord): void {
  record.needMain(2);
  const intervals = peek16(record.mainAt);
  record.needData(4 * intervals);
  const first = firstDataLine(PAGE);
  const count = lineCount(PAGE);
  startTempPage(PAGE);
  if (first === 2) copyItem(1);
  let next = 0;
  for (let line = first; line <= count;) {
    if (next === intervals || peek16(record.dataAt + 4 * next) !== line) {
      copyItem(line++);
      continue;
    }
    const merged = peek16(record.dataAt + 4 * next + 2);
    const base = itemAddress(PAGE, line, TUPLE_HEADER_BYTES);
    const baseBytes = itemLength(PAGE, line);
    startCollecting();
    for (let i = 0; i < merged; i++, line++)
      collectTuple(itemAddress(PAGE, line, TUPLE_HEADER_BYTES), itemLength(PAGE, line));
    const tuple = formPosting(base, baseBytes);
    insertItem(TEMP_PAGE, tuple, tupleSize(tuple), lineCount(TEMP_PAGE) + 1);
    next++;
  }
  if (next !== intervals) throw corruptPage(`only ${next} of ${intervals} deduplication intervals are on the page`);
  clearFlag(TEMP_PAGE, BTP_HAS_GARBAGE);
  restoreTempPage(PAGE);
}

function copyItem(line: number): void {
  insertItem(TEMP_PAGE, itemAddress(PAGE, line, TUPLE_HEADER_BYTES), itemLength(PAGE, line), lineCount(TEMP_PAGE) + 1);
}

/**
 * Block data: u16 lines to delete, u16 lines whose posting lists shrink, then for each of the latter u16 count and u16 places in the
 * list of the rows to remove. `countsAt` is where main data has u16 number of deleted, u16 number of updated lines.
 */
export function redoBtreeDeletes(record: SlimRecord, countsAt: number): void {
  record.needMain(countsAt + 4);
  const deleted = peek16(record.mainAt + countsAt);
  const updated = peek16(record.mainAt + countsAt + 2);
  record.needData(2 * (deleted + updated));
  const updatedLines = record.dataAt + 2 * deleted;
  let at = updatedLines + 2 * updated;
  for (let i = 0; i < updated; i++) {
    record.needData(at + 2 - record.dataAt);
    const removed = peek16(at);
    record.needData(at + 2 + 2 * removed - record.dataAt);
    shrinkPosting(peek16(updatedLines + 2 * i), at + 2, removed);
    at += 2 + 2 * removed;
  }
  if (deleted > 0) deleteIndexItems(PAGE, record.dataAt, deleted);
  clearFlag(PAGE, BTP_HAS_GARBAGE);
}

/** Removes the rows at the ascending places `placesAt` from the posting list at `line`. */
function shrinkPosting(line: number, placesAt: number, removed: number): void {
  const tuple = itemAddress(PAGE, line, TUPLE_HEADER_BYTES);
  const bytes = itemLength(PAGE, line);
  const list = postingList(tuple, bytes);
  const count = postingCount(tuple);
  startCollecting();
  let next = 0;
  for (let place = 0; place < count; place++) {
    if (next < removed && peek16(placesAt + 2 * next) === place) next++;
    else collectTids(list + place * TID_BYTES, 1);
  }
  if (next !== removed || collectedCount() === 0)
    throw corruptPage(`posting list at ${line} does not have the rows to remove`);
  const shrunk = formPosting(tuple, bytes);
  overwriteIndexItem(PAGE, line, shrunk, maxAlign(tupleSize(shrunk)));
}
