/**
 * Redo of the BRIN resource manager.
 *
 *   special area, 8 bytes        0 pad   4 u16 flags   6 u16 page type
 *   meta page, behind header     0 u32 magic   4 u32 version   8 u32 heap pages a range   12 u32 last revmap page
 *   revmap page, behind header   the address of each range's tuple, 6 bytes each
 */
import { StorageError } from '#shared/core/errors.js';
import { PAGE_HEADER_BYTES, PD_LOWER } from '#shared/postgres/page-layout.js';
import { move, PAGE, PAGE_BYTES, peek16, peek32, poke16, store16, store32 } from './arena.js';
import {
  ADD_AT_UNUSED,
  corruptPage,
  deleteIndexItemKeepingLines,
  initPage,
  overwriteIndexItem,
  reserveItem,
  setPageLsn,
} from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const OPCODES = 0x70;
const INIT_PAGE = 0x80;
const CREATE_INDEX = 0x00;
const INSERT = 0x10;
const UPDATE = 0x20;
const SAMEPAGE_UPDATE = 0x30;
const REVMAP_EXTEND = 0x40;
const DESUMMARIZE = 0x50;

const SPECIAL_BYTES = 8;
const TYPE_META = 0xf091;
const TYPE_REVMAP = 0xf092;
const TYPE_REGULAR = 0xf093;
const MAGIC = 0xa810_9cfa;
const META_BYTES = 16;
const LAST_REVMAP_PAGE = PAGE_HEADER_BYTES + 12;

const TID_BYTES = 6;
const TIDS_PER_REVMAP_PAGE = Math.floor((PAGE_BYTES - PAGE_HEADER_BYTES - SPECIAL_BYTES) / TID_BYTES);

export function redoBrin(record: SlimRecord): void {
  switch (record.info & OPCODES) {
    case CREATE_INDEX:
      createIndex(record);
      break;
    case INSERT:
      insert(record, 0);
      break;
    case UPDATE:
      update(record);
      break;
    case SAMEPAGE_UPDATE:
      record.needMain(2);
      overwriteIndexItem(PAGE, peek16(record.mainAt), record.dataAt, record.dataBytes);
      break;
    case REVMAP_EXTEND:
      extendRevmap(record);
      break;
    case DESUMMARIZE:
      desummarize(record);
      break;
    default:
      throw new StorageError('corrupt', `BRIN operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

function initBrinPage(type: number): void {
  initPage(PAGE, SPECIAL_BYTES);
  store16(PAGE + PAGE_BYTES - 2, type);
}

/** Main data: u32 heap pages a range, u16 version. */
function createIndex(record: SlimRecord): void {
  record.needMain(6);
  initBrinPage(TYPE_META);
  store32(PAGE + PAGE_HEADER_BYTES, MAGIC);
  store32(PAGE + PAGE_HEADER_BYTES + 4, peek16(record.mainAt + 4));
  store32(PAGE + PAGE_HEADER_BYTES + 8, peek32(record.mainAt));
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + META_BYTES);
}

/** Block 0: the page of the new tuple; 1: the revmap. Main data from `at` on: u32 heap block, u32 pages a range, u16 line. */
function insert(record: SlimRecord, at: number): void {
  record.needMain(at + 10);
  const line = peek16(record.mainAt + at + 8);
  if (record.blockId === 1) {
    setRevmap(peek32(record.mainAt + at), peek32(record.mainAt + at + 4), record.blockNumber(0), line);
    return;
  }
  if (record.info & INIT_PAGE) initBrinPage(TYPE_REGULAR);
  move(reserveItem(PAGE, record.dataBytes, line, ADD_AT_UNUSED), record.dataAt, record.dataBytes);
}

/** As insert, its main data from byte 4 on; block 2: the old page, where u16 at byte 0 is the old tuple. */
function update(record: SlimRecord): void {
  if (record.blockId !== 2) return insert(record, 4);
  record.needMain(4);
  deleteIndexItemKeepingLines(PAGE, peek16(record.mainAt));
}

/** Block 0: the meta page; 1: the new revmap page, u32 in main data. */
function extendRevmap(record: SlimRecord): void {
  record.needMain(4);
  if (record.blockId === 1) return initBrinPage(TYPE_REVMAP);
  store32(PAGE + LAST_REVMAP_PAGE, peek32(record.mainAt));
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + META_BYTES);
}

/** Block 0: the revmap; 1: the page of the tuple. Main data: u32 pages a range, u32 heap block, u16 line. */
function desummarize(record: SlimRecord): void {
  record.needMain(10);
  if (record.blockId === 1) return deleteIndexItemKeepingLines(PAGE, peek16(record.mainAt + 8));
  setRevmap(peek32(record.mainAt + 4), peek32(record.mainAt), NO_BLOCK, 0);
}

function setRevmap(heapBlock: number, pagesPerRange: number, block: number, line: number): void {
  if (pagesPerRange === 0) throw corruptPage('a BRIN range of no pages');
  const at = PAGE + PAGE_HEADER_BYTES + (Math.floor(heapBlock / pagesPerRange) % TIDS_PER_REVMAP_PAGE) * TID_BYTES;
  poke16(at, block >>> 16);
  poke16(at + 2, block & 0xffff);
  poke16(at + 4, line);
}
