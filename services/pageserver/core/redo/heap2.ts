/** Redo of the heap2 resource manager: pruning, vacuum, freezing, visibility, many rows at once, locks on updated rows. */
import { LP_DEAD, LP_REDIRECT, PAGE_HEADER_BYTES, PD_ALL_VISIBLE } from '#shared/postgres/page-layout.js';
import { StorageError } from '#shared/core/errors.js';
import { memory, move, PAGE, peek16, peek32, peek8, store16, store32 } from './arena.js';
import { HEAP_INIT_PAGE, reserveRow } from './heap.js';
import {
  FIELD3,
  HEADER_BYTES,
  heapTuple,
  INFOMASK,
  INFOMASK2,
  setNextVersion,
  setXmaxBits,
  WAL_HEADER_BYTES,
  writeTupleHeader,
  XMAX,
} from './heap-tuple.js';
import { VM_HEAP_BLOCKS_PER_PAGE, VM_VALID_BITS } from './neon-records.js';
import {
  clearPageFlag,
  corruptPage,
  initPage,
  isNewPage,
  makeLine,
  repairFragmentation,
  setLine,
  setPageFlag,
  setPageLsn,
  truncateLines,
} from './page.js';
import type { SlimRecord } from './slim-record.js';

const OPCODES = 0x70;
const PRUNE = 0x10;
const VACUUM = 0x20;
const FREEZE_PAGE = 0x30;
const VISIBLE = 0x40;
const MULTI_INSERT = 0x50;
const LOCK_UPDATED = 0x60;

const ALL_VISIBLE_CLEARED = 0x01;
const ALL_FROZEN_SET = 0x20;

const PRUNE_BYTES = 8;
const VACUUM_BYTES = 2;
const FREEZE_BYTES = 6;
const FREEZE_PLAN_BYTES = 12;
const VISIBLE_BYTES = 5;
/** Behind the flags byte and a pad: u16 rows, then a u16 line for each unless the page is made anew. */
const MULTI_INSERT_BYTES = 4;
const LOCK_UPDATED_BYTES = 8;

const FREEZE_XVAC = 0x02;
const INVALID_XVAC = 0x04;
const FROZEN_XID = 2;

/** `logHints`: the cluster has page checksums or wal_log_hints, so that making a page all-visible stamps it with the LSN. */
export function redoHeap2(record: SlimRecord, logHints: boolean): void {
  switch (record.info & OPCODES) {
    case PRUNE:
      prune(record);
      break;
    case VACUUM:
      vacuum(record);
      break;
    case FREEZE_PAGE:
      freeze(record);
      break;
    case VISIBLE:
      return visible(record, logHints);
    case MULTI_INSERT:
      multiInsert(record);
      break;
    case LOCK_UPDATED:
      record.needMain(LOCK_UPDATED_BYTES);
      lockUpdated(record);
      break;
    default:
      throw new StorageError('corrupt', `heap2 operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

/** Block data: pairs of lines to redirect, then lines that are dead, then lines that become unused. */
function prune(record: SlimRecord): void {
  record.needMain(PRUNE_BYTES);
  const redirected = peek16(record.mainAt + 4);
  const dead = peek16(record.mainAt + 6);
  record.needData(4 * redirected + 2 * dead);
  const end = record.dataAt + record.dataBytes;
  let at = record.dataAt;
  for (let i = 0; i < redirected; i++, at += 4) setLine(PAGE, peek16(at), makeLine(peek16(at + 2), LP_REDIRECT, 0));
  for (let i = 0; i < dead; i++, at += 2) setLine(PAGE, peek16(at), makeLine(0, LP_DEAD, 0));
  for (; at + 2 <= end; at += 2) setLine(PAGE, peek16(at), 0);
  repairFragmentation(PAGE);
}

function vacuum(record: SlimRecord): void {
  record.needMain(VACUUM_BYTES);
  const count = peek16(record.mainAt);
  record.needData(2 * count);
  for (let i = 0; i < count; i++) setLine(PAGE, peek16(record.dataAt + 2 * i), 0);
  truncateLines(PAGE);
}

/** Plans: u32 xmax, u16 line, u16 infomask2, u16 infomask, u8 flags, pad. */
function freeze(record: SlimRecord): void {
  record.needMain(FREEZE_BYTES);
  const count = peek16(record.mainAt + 4);
  record.needData(FREEZE_PLAN_BYTES * count);
  for (let i = 0; i < count; i++) {
    const plan = record.dataAt + FREEZE_PLAN_BYTES * i;
    const tuple = heapTuple(PAGE, peek16(plan + 4));
    const flags = peek8(plan + 10);
    store32(tuple + XMAX, peek32(plan));
    if (flags & FREEZE_XVAC) store32(tuple + FIELD3, FROZEN_XID);
    if (flags & INVALID_XVAC) store32(tuple + FIELD3, 0);
    store16(tuple + INFOMASK, peek16(plan + 8));
    store16(tuple + INFOMASK2, peek16(plan + 6));
  }
}

/** Block 0 is the page of the visibility map, block 1 the heap page. */
function visible(record: SlimRecord, logHints: boolean): void {
  record.needMain(VISIBLE_BYTES);
  if (record.blockId === 1) {
    setPageFlag(PAGE, PD_ALL_VISIBLE);
    if (logHints) setPageLsn(PAGE, record.endLsn);
    return;
  }
  if (isNewPage(PAGE)) initPage(PAGE, 0);
  const inPage = record.blockNumber(1) % VM_HEAP_BLOCKS_PER_PAGE;
  const at = PAGE + PAGE_HEADER_BYTES + (inPage >>> 2);
  const shift = (inPage & 3) * 2;
  const bits = peek8(record.mainAt + 4) & VM_VALID_BITS;
  if (((memory[at]! >>> shift) & VM_VALID_BITS) === bits) return;
  memory[at] = memory[at]! | (bits << shift);
  setPageLsn(PAGE, record.endLsn);
}

/** Block data: for each row, at an even place, u16 bytes of body, the row's header fields, the body. */
function multiInsert(record: SlimRecord): void {
  record.needMain(MULTI_INSERT_BYTES);
  const flags = peek8(record.mainAt);
  const count = peek16(record.mainAt + 2);
  const isInit = (record.info & HEAP_INIT_PAGE) !== 0;
  if (isInit) initPage(PAGE, 0);
  else record.needMain(MULTI_INSERT_BYTES + 2 * count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    at = (at + 1) & ~1;
    record.needData(at + 2 + WAL_HEADER_BYTES);
    const header = record.dataAt + at + 2;
    const bodyBytes = peek16(header - 2);
    at += 2 + WAL_HEADER_BYTES + bodyBytes;
    record.needData(at);
    const line = isInit ? i + 1 : peek16(record.mainAt + MULTI_INSERT_BYTES + 2 * i);
    const tuple = reserveRow(HEADER_BYTES + bodyBytes, line);
    writeTupleHeader(tuple, header, record.xid, 0);
    setNextVersion(tuple, record.blockNumber(0), line);
    move(tuple + HEADER_BYTES, header + WAL_HEADER_BYTES, bodyBytes);
  }
  if (at !== record.dataBytes) throw corruptPage(`rows of ${at} bytes in ${record.dataBytes} bytes of data`);
  if (flags & ALL_VISIBLE_CLEARED) clearPageFlag(PAGE, PD_ALL_VISIBLE);
  if (flags & ALL_FROZEN_SET) setPageFlag(PAGE, PD_ALL_VISIBLE);
}

function lockUpdated(record: SlimRecord): void {
  const tuple = heapTuple(PAGE, peek16(record.mainAt + 4));
  setXmaxBits(tuple, peek8(record.mainAt + 6));
  store32(tuple + XMAX, peek32(record.mainAt));
}
