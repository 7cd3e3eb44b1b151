/**
 * Redo of the GiST resource manager.
 *
 *   special area, 16 bytes   0 u32 u32 sequence number (an LSN, high half first)   8 u32 right link   12 u16 flags   14 u16 0xff81
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { PAGE_HEADER_BYTES, PD_LOWER, PD_SPECIAL } from '#shared/postgres/page-layout.js';
import { load16, move, PAGE, PAGE_BYTES, peek16, peek32, peek8, store16, store32 } from './arena.js';
import { tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import {
  corruptPage,
  deleteIndexItem,
  deleteIndexItems,
  initPage,
  insertItem,
  lineCount,
  overwriteIndexItem,
  setPageLsn,
} from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const PAGE_UPDATE = 0x00;
const DELETE = 0x10;
const PAGE_SPLIT = 0x30;
const PAGE_DELETE = 0x60;

const SPECIAL_BYTES = 16;
const PAGE_ID = 0xff81;
const F_LEAF = 0x0001;
const F_DELETED = 0x0002;
const F_FOLLOW_RIGHT = 0x0008;
const F_HAS_GARBAGE = 0x0010;

const ROOT_BLOCK = 0;
const NO_PAGE = 0xffff_ffff;
const SPLIT_BYTES = 21;

export function redoGist(record: SlimRecord): void {
  switch (record.info) {
    case PAGE_UPDATE:
      if (record.blockId === 1) completeGistSplit(record.endLsn);
      else updatePage(record);
      break;
    case DELETE:
      deleteTuples(record);
      break;
    case PAGE_SPLIT:
      if (record.blockId === 0) completeGistSplit(record.endLsn);
      else fillSplitPage(record);
      break;
    case PAGE_DELETE:
      deletePage(record);
      break;
    default:
      throw new StorageError('corrupt', `GiST operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

function special(): number {
  const offset = load16(PAGE + PD_SPECIAL);
  if (offset !== PAGE_BYTES - SPECIAL_BYTES) throw corruptPage(`not a GiST page: special area at ${offset}`);
  return PAGE + offset;
}

function changeFlags(clear: number, set: number): void {
  const at = special() + 12;
  store16(at, (load16(at) & ~clear) | set);
}

/**
 * The parent of a split page's left half has its downlinks now. The half's sequence number becomes the record's LSN, which an image in
 * the record cannot have: this is done even to a page restored from its image.
 */
export function completeGistSplit(endLsn: Lsn): void {
  store32(special(), Math.floor(endLsn / 0x1_0000_0000));
  store32(special() + 4, endLsn >>> 0);
  changeFlags(F_FOLLOW_RIGHT, 0);
}

/** Main data: u16 deletions, u16 insertions. Block data: u16 lines to delete, then tuples to add behind the last. */
function updatePage(record: SlimRecord): void {
  record.needMain(4);
  const deleted = peek16(record.mainAt);
  const inserted = peek16(record.mainAt + 2);
  record.needData(2 * deleted);
  let at = record.dataAt + 2 * deleted;
  if (deleted === 1 && inserted === 1) {
    const bytes = tupleBytes(record, at);
    overwriteIndexItem(PAGE, peek16(record.dataAt), at, bytes);
    return;
  }
  if (deleted > 0) deleteIndexItems(PAGE, record.dataAt, deleted);
  for (const end = record.dataAt + record.dataBytes; at < end;) at += append(record, at);
}

/** Bytes of the tuple at `at` in block data, checked to lie inside. */
function tupleBytes(record: SlimRecord, at: number): number {
  record.needData(at + TUPLE_HEADER_BYTES - record.dataAt);
  const bytes = tupleSize(at);
  record.needData(at + bytes - record.dataAt);
  if (bytes < TUPLE_HEADER_BYTES) throw corruptPage(`an index tuple of ${bytes} bytes`);
  return bytes;
}

function append(record: SlimRecord, at: number): number {
  const bytes = tupleBytes(record, at);
  insertItem(PAGE, at, bytes, lineCount(PAGE) + 1);
  return bytes;
}

/** Main data: u32 xid, u16 count, u16 lines. */
function deleteTuples(record: SlimRecord): void {
  record.needMain(6);
  const count = peek16(record.mainAt + 4);
  record.needMain(6 + 2 * count);
  if (count > 0) deleteIndexItems(PAGE, record.mainAt + 6, count);
  changeFlags(F_HAS_GARBAGE, 0);
}

/**
 * Blocks 1 to n: the pages that the old one became, which is the first; block 0: a child whose own split is complete now.
 * Main data: u32 old right link, pad, u64 old sequence number, u8 leaf, pad, u16 n, u8 mark all but the last. Block data: i32 tuples,
 * the tuples.
 */
function fillSplitPage(record: SlimRecord): void {
  record.needMain(SPLIT_BYTES);
  record.needData(4);
  const isRoot = record.blockNumber(record.blockId) === ROOT_BLOCK;
  const isRootSplit = record.blockNumber(1) === ROOT_BLOCK;
  const isLast = record.blockId >= peek16(record.mainAt + 18);
  initPage(PAGE, SPECIAL_BYTES);
  store16(PAGE + PAGE_BYTES - 2, PAGE_ID);
  let at = record.dataAt + 4;
  for (let i = peek32(record.dataAt); i > 0; i--) at += append(record, at);

  move(special(), record.mainAt + 12, 4);
  move(special() + 4, record.mainAt + 8, 4);
  if (isRoot) {
    store32(special() + 8, NO_PAGE);
    return;
  }
  const next = isLast ? peek32(record.mainAt) : record.blockNumber(record.blockId + 1);
  if (!isLast && next === NO_BLOCK) throw corruptPage('a page split that names too few pages');
  store32(special() + 8, next);
  const followRight = !isLast && !isRootSplit && peek8(record.mainAt + 20) !== 0;
  changeFlags(0, (peek8(record.mainAt + 16) !== 0 ? F_LEAF : 0) | (followRight ? F_FOLLOW_RIGHT : 0));
}

/** Block 0: the page; 1: its parent. Main data: u64 xid, u16 line in the parent. */
function deletePage(record: SlimRecord): void {
  record.needMain(10);
  if (record.blockId === 1) return deleteIndexItem(PAGE, peek16(record.mainAt + 8));
  changeFlags(0, F_DELETED);
  move(PAGE + PAGE_HEADER_BYTES, record.mainAt, 8);
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + 8);
}
