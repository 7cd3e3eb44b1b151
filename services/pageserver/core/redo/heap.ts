/** Redo of the heap resource manager: rows inserted, deleted, updated, locked, confirmed and overwritten in place. */
import { PD_ALL_VISIBLE } from '#shared/postgres/page-layout.js';
import { StorageError } from '#shared/core/errors.js';
import { move, PAGE, peek16, peek32, peek8, store32 } from './arena.js';
import {
  clearCommandId,
  clearHotUpdated,
  HEADER_BYTES,
  heapTuple,
  HOFF,
  isLockedOnly,
  setHotUpdated,
  setNextVersion,
  setXmaxBits,
  WAL_HEADER_BYTES,
  writeTupleHeader,
  XMAX,
  XMIN,
} from './heap-tuple.js';
import {
  ADD_AT_UNUSED,
  clearPageFlag,
  corruptPage,
  initPage,
  itemLength,
  reserveItem,
  setPageLsn,
  setPrunable,
} from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const OPCODES = 0x70;
export const HEAP_INIT_PAGE = 0x80;
const INSERT = 0x00;
const DELETE = 0x10;
const UPDATE = 0x20;
const TRUNCATE = 0x30;
const HOT_UPDATE = 0x40;
const CONFIRM = 0x50;
const LOCK = 0x60;
const INPLACE = 0x70;

const ALL_VISIBLE_CLEARED = 0x01;
const DELETE_IS_SUPER = 0x08;
const DELETE_IS_PARTITION_MOVE = 0x10;
const UPDATE_OLD_ALL_VISIBLE_CLEARED = 0x01;
const UPDATE_NEW_ALL_VISIBLE_CLEARED = 0x02;
const UPDATE_PREFIX_FROM_OLD = 0x20;
const UPDATE_SUFFIX_FROM_OLD = 0x40;

const INSERT_BYTES = 3;
const DELETE_BYTES = 8;
const UPDATE_BYTES = 14;
const LOCK_BYTES = 8;
const LINE_BYTES = 2;

/** The next-version field of a row that went to another partition. */
const MOVED_BLOCK = 0xffff_ffff;
const MOVED_LINE = 0xfffd;

/** No row on a page of 8192 bytes has a higher number. */
const HEAP_LINES_MAX = 291;

export function redoHeap(record: SlimRecord): void {
  switch (record.info & OPCODES) {
    case INSERT:
      insert(record);
      break;
    case DELETE:
      deleteRow(record);
      break;
    case UPDATE:
    case HOT_UPDATE:
      update(record);
      break;
    case CONFIRM:
      record.needMain(LINE_BYTES);
      setNextVersion(heapTuple(PAGE, peek16(record.mainAt)), record.blockNumber(0), peek16(record.mainAt));
      break;
    case LOCK:
      lock(record);
      break;
    case INPLACE:
      overwriteInPlace(record);
      break;
    case TRUNCATE:
    default:
      throw new StorageError('corrupt', `heap operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

/** Room for a row of `bytes` bytes, header included, at `line`. */
export function reserveRow(bytes: number, line: number): number {
  if (line > HEAP_LINES_MAX) throw corruptPage(`row number ${line} is not possible`);
  return reserveItem(PAGE, bytes, line, ADD_AT_UNUSED);
}

function insert(record: SlimRecord): void {
  record.needMain(INSERT_BYTES);
  record.needData(WAL_HEADER_BYTES);
  if (record.info & HEAP_INIT_PAGE) initPage(PAGE, 0);
  const line = peek16(record.mainAt);
  const bodyBytes = record.dataBytes - WAL_HEADER_BYTES;
  const tuple = reserveRow(HEADER_BYTES + bodyBytes, line);
  writeTupleHeader(tuple, record.dataAt, record.xid, 0);
  setNextVersion(tuple, record.blockNumber(0), line);
  move(tuple + HEADER_BYTES, record.dataAt + WAL_HEADER_BYTES, bodyBytes);
  if (peek8(record.mainAt + 2) & ALL_VISIBLE_CLEARED) clearPageFlag(PAGE, PD_ALL_VISIBLE);
}

function deleteRow(record: SlimRecord): void {
  record.needMain(DELETE_BYTES);
  const line = peek16(record.mainAt + 4);
  const flags = peek8(record.mainAt + 7);
  const tuple = heapTuple(PAGE, line);
  clearHotUpdated(tuple);
  setXmaxBits(tuple, peek8(record.mainAt + 6));
  if (flags & DELETE_IS_SUPER) store32(tuple + XMIN, 0);
  else store32(tuple + XMAX, peek32(record.mainAt));
  clearCommandId(tuple);
  setPrunable(PAGE, record.xid);
  if (flags & ALL_VISIBLE_CLEARED) clearPageFlag(PAGE, PD_ALL_VISIBLE);
  if (flags & DELETE_IS_PARTITION_MOVE) setNextVersion(tuple, MOVED_BLOCK, MOVED_LINE);
  else setNextVersion(tuple, record.blockNumber(0), line);
}

/** Block 0 is the page of the new row; the old row is on block 1, or on block 0 as well when there is no block 1. */
function update(record: SlimRecord): void {
  record.needMain(UPDATE_BYTES);
  const onePage = record.blockNumber(1) === NO_BLOCK;
  if (record.blockId === 1 || onePage) markOldRow(record);
  if (record.blockId === 0) insertNewRow(record, onePage);
}

function markOldRow(record: SlimRecord): void {
  const tuple = heapTuple(PAGE, peek16(record.mainAt + 4));
  if ((record.info & OPCODES) === HOT_UPDATE) setHotUpdated(tuple);
  else clearHotUpdated(tuple);
  setXmaxBits(tuple, peek8(record.mainAt + 6));
  store32(tuple + XMAX, peek32(record.mainAt));
  clearCommandId(tuple);
  setNextVersion(tuple, record.blockNumber(0), peek16(record.mainAt + 12));
  setPrunable(PAGE, record.xid);
  if (peek8(record.mainAt + 7) & UPDATE_OLD_ALL_VISIBLE_CLEARED) clearPageFlag(PAGE, PD_ALL_VISIBLE);
}

/** The record leaves out what the new row's data has in common with the old row's, at its start and at its end. */
function insertNewRow(record: SlimRecord, onePage: boolean): void {
  const flags = peek8(record.mainAt + 7);
  const line = peek16(record.mainAt + 12);
  const hasPrefix = (flags & UPDATE_PREFIX_FROM_OLD) !== 0;
  const hasSuffix = (flags & UPDATE_SUFFIX_FROM_OLD) !== 0;
  const lengthsBytes = (hasPrefix ? 2 : 0) + (hasSuffix ? 2 : 0);
  record.needData(lengthsBytes + WAL_HEADER_BYTES);
  const prefixBytes = hasPrefix ? peek16(record.dataAt) : 0;
  const suffixBytes = hasSuffix ? peek16(record.dataAt + lengthsBytes - 2) : 0;
  const header = record.dataAt + lengthsBytes;
  const body = header + WAL_HEADER_BYTES;
  const bodyBytes = record.dataAt + record.dataBytes - body;

  if (record.info & HEAP_INIT_PAGE) initPage(PAGE, 0);
  const tuple = reserveRow(HEADER_BYTES + bodyBytes + prefixBytes + suffixBytes, line);
  writeTupleHeader(tuple, header, record.xid, peek32(record.mainAt + 8));
  setNextVersion(tuple, record.blockNumber(0), line);
  const to = tuple + HEADER_BYTES;
  if (prefixBytes + suffixBytes === 0) {
    move(to, body, bodyBytes);
  } else {
    // The null bitmap and padding in front of the data come from the record, before the prefix.
    const headBytes = prefixBytes > 0 ? peek8(header + 4) - HEADER_BYTES : bodyBytes;
    if (!onePage || headBytes < 0 || headBytes > bodyBytes) throw corruptPage('an update takes data from no old row');
    move(to, body, headBytes);
    copyFromOldRow(record, to + headBytes, prefixBytes, 0);
    move(to + headBytes + prefixBytes, body + headBytes, bodyBytes - headBytes);
    copyFromOldRow(record, to + prefixBytes + bodyBytes, 0, suffixBytes);
  }
  if (flags & UPDATE_NEW_ALL_VISIBLE_CLEARED) clearPageFlag(PAGE, PD_ALL_VISIBLE);
}

/** The first `prefixBytes` or the last `suffixBytes` of the old row's data. */
function copyFromOldRow(record: SlimRecord, to: number, prefixBytes: number, suffixBytes: number): void {
  const line = peek16(record.mainAt + 4);
  const tuple = heapTuple(PAGE, line);
  const end = tuple + itemLength(PAGE, line);
  const data = tuple + peek8(tuple + HOFF);
  if (data + prefixBytes > end || end - suffixBytes < data)
    throw corruptPage(`row ${line} is shorter than an update of it says`);
  if (prefixBytes > 0) move(to, data, prefixBytes);
  if (suffixBytes > 0) move(to, end - suffixBytes, suffixBytes);
}

function lock(record: SlimRecord): void {
  record.needMain(LOCK_BYTES);
  const line = peek16(record.mainAt + 4);
  const tuple = heapTuple(PAGE, line);
  setXmaxBits(tuple, peek8(record.mainAt + 6));
  if (isLockedOnly(tuple)) {
    clearHotUpdated(tuple);
    setNextVersion(tuple, record.blockNumber(0), line);
  }
  store32(tuple + XMAX, peek32(record.mainAt));
  clearCommandId(tuple);
}

/** Catalog rows that are changed without a new version; the length stays. */
function overwriteInPlace(record: SlimRecord): void {
  record.needMain(LINE_BYTES);
  const line = peek16(record.mainAt);
  const tuple = heapTuple(PAGE, line);
  const hoff = peek8(tuple + HOFF);
  if (itemLength(PAGE, line) - hoff !== record.dataBytes) {
    throw corruptPage(`row ${line} cannot be overwritten by ${record.dataBytes} bytes`);
  }
  move(tuple + hoff, record.dataAt, record.dataBytes);
}
