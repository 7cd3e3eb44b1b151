/**
 * Redo of btree page splits. Block 0: the page that was split, now the left one; 1: the new right page; 2: the page right of it, if
 * any; 3: for internal pages, the child whose split is complete now.
 *
 *   main data   0 u32 level   4 u16 first old line that goes right   6 u16 line of the new tuple   8 u16 place in a posting list or 0
 */
import { maxAlign, PAGE, peek16, peek32, TEMP_PAGE } from './arena.js';
import {
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  clearFlag,
  firstDataLine,
  initBtreePage,
  resetFlags,
  restoreItems,
  setLeftSibling,
  setRightSibling,
} from './btree-page.js';
import { swapPosting, tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import { corruptPage, insertItem, itemAddress, itemLength, lineCount, restoreTempPage, startTempPage } from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const MAIN_BYTES = 10;

export function redoBtreeSplit(record: SlimRecord, newTupleOnLeft: boolean): void {
  record.needMain(MAIN_BYTES);
  switch (record.blockId) {
    case 0:
      return rebuildLeftPage(record, newTupleOnLeft);
    case 1: {
      const level = peek32(record.mainAt);
      const next = record.blockNumber(2);
      initBtreePage(record.blockNumber(0), next === NO_BLOCK ? 0 : next, level, level === 0 ? BTP_LEAF : 0);
      return restoreItems(record.dataAt, record.dataAt + record.dataBytes);
    }
    case 2:
      return setLeftSibling(PAGE, record.blockNumber(1));
    case 3:
      return clearFlag(PAGE, BTP_INCOMPLETE_SPLIT);
    default:
      throw corruptPage(`a btree split has no block ${record.blockId}`);
  }
}

/** Takes the tuple at `at` in block data: its rounded length, checked against the end. */
function carriedTupleBytes(record: SlimRecord, at: number): number {
  record.needData(at - record.dataAt + TUPLE_HEADER_BYTES);
  const bytes = maxAlign(tupleSize(at));
  record.needData(at - record.dataAt + bytes);
  return bytes;
}

/** Block data: the new tuple, if it goes left or splits a posting list; the new high key. */
function rebuildLeftPage(record: SlimRecord, newTupleOnLeft: boolean): void {
  const level = peek32(record.mainAt);
  const firstRight = peek16(record.mainAt + 4);
  const newLine = peek16(record.mainAt + 6);
  const postingPlace = peek16(record.mainAt + 8);
  let highKey = record.dataAt;
  const newTuple = record.dataAt;
  let newBytes = 0;
  if (newTupleOnLeft || postingPlace !== 0) {
    newBytes = carriedTupleBytes(record, newTuple);
    highKey += newBytes;
  }
  // The posting list before the new tuple changes in place: the old page is thrown away.
  if (postingPlace !== 0) {
    const posting = itemAddress(PAGE, newLine - 1, TUPLE_HEADER_BYTES);
    swapPosting(newTuple, posting, itemLength(PAGE, newLine - 1), postingPlace);
  }
  const first = firstDataLine(PAGE);
  if (firstRight > lineCount(PAGE) + 1) throw corruptPage(`split at line ${firstRight} of ${lineCount(PAGE)}`);
  startTempPage(PAGE);
  insertItem(TEMP_PAGE, highKey, carriedTupleBytes(record, highKey), 1);
  for (let line = first; line < firstRight; line++) {
    if (newTupleOnLeft && line === newLine) append(newTuple, newBytes);
    append(itemAddress(PAGE, line, TUPLE_HEADER_BYTES), itemLength(PAGE, line));
  }
  if (newTupleOnLeft && newLine === firstRight) append(newTuple, newBytes);
  restoreTempPage(PAGE);
  resetFlags(PAGE, BTP_INCOMPLETE_SPLIT | (level === 0 ? BTP_LEAF : 0));
  setRightSibling(PAGE, record.blockNumber(1));
}

function append(from: number, bytes: number): void {
  insertItem(TEMP_PAGE, from, bytes, lineCount(TEMP_PAGE) + 1);
}
