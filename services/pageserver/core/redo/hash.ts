/** Redo of the hash resource manager. Bucket pages that a record names only to have them locked do not change. */
import { StorageError } from '#shared/core/errors.js';
import { maxAlign, PAGE, peek16, peek32, peek8, peekFloat64 } from './arena.js';
import { tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import {
  addBitmapPage,
  addFirstBitmapPage,
  addSparePages,
  addTuples,
  changeBit,
  clearFlags,
  initBitmapPage,
  initHashPage,
  initMetaPage,
  initUnusedPage,
  LH_HAS_DEAD_TUPLES,
  LH_NEEDS_SPLIT_CLEANUP,
  LH_OVERFLOW_PAGE,
  setFirstFree,
  setFlags,
  setNext,
  setPrevious,
  setTuples,
  startBucket,
} from './hash-page.js';
import { corruptPage, deleteIndexItems, insertItem, setPageLsn } from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const INIT_META_PAGE = 0x00;
const INIT_BITMAP_PAGE = 0x10;
const INSERT = 0x20;
const ADD_OVFL_PAGE = 0x30;
const SPLIT_ALLOCATE_PAGE = 0x40;
const SPLIT_COMPLETE = 0x60;
const MOVE_PAGE_CONTENTS = 0x70;
const SQUEEZE_PAGE = 0x80;
const DELETE = 0x90;
const SPLIT_CLEANUP = 0xa0;
const UPDATE_META_PAGE = 0xb0;
const VACUUM_ONE_PAGE = 0xc0;

const SPLIT_META_UPDATE_MASKS = 0x01;
const SPLIT_META_UPDATE_SPLITPOINT = 0x02;

type BlockRedo = (record: SlimRecord) => boolean;

/** By operation; each tells whether the page changed. */
const OPERATIONS: ReadonlyMap<number, BlockRedo> = new Map<number, BlockRedo>([
  [INIT_META_PAGE, initMeta],
  [INIT_BITMAP_PAGE, initBitmap],
  [INSERT, insert],
  [ADD_OVFL_PAGE, addOverflowPage],
  [SPLIT_ALLOCATE_PAGE, allocateBucket],
  [SPLIT_COMPLETE, completeSplit],
  [MOVE_PAGE_CONTENTS, moveContents],
  [SQUEEZE_PAGE, squeeze],
  [DELETE, deleteTuples],
  [SPLIT_CLEANUP, cleanUpSplit],
  [UPDATE_META_PAGE, updateMeta],
  [VACUUM_ONE_PAGE, vacuumPage],
]);

export function redoHash(record: SlimRecord): void {
  const operation = OPERATIONS.get(record.info);
  if (operation === undefined) throw new StorageError('corrupt', `hash operation ${record.info} changes no page`);
  if (operation(record)) setPageLsn(PAGE, record.endLsn);
}

/** Main data: f64 tuples, u32 hash function, u16 fill factor. */
function initMeta(record: SlimRecord): boolean {
  record.needMain(14);
  initMetaPage(peekFloat64(record.mainAt), peek32(record.mainAt + 8), peek16(record.mainAt + 12));
  return true;
}

/** Block 0: the bitmap page, of u16 bytes; 1: the meta page. */
function initBitmap(record: SlimRecord): boolean {
  record.needMain(2);
  if (record.blockId === 1) addFirstBitmapPage();
  else initBitmapPage(peek16(record.mainAt));
  return true;
}

/** Block 0: the page; 1: the meta page. */
function insert(record: SlimRecord): boolean {
  record.needMain(2);
  if (record.blockId === 1) addTuples(1);
  else insertItem(PAGE, record.dataAt, record.dataBytes, peek16(record.mainAt));
  return true;
}

/**
 * Block 0: the overflow page; 1: the page before it; 2: the bitmap with its bit; 3: a new bitmap page; 4: the meta page.
 * Main data: u16 bytes of a bitmap, u8 whether a free page was found.
 */
function addOverflowPage(record: SlimRecord): boolean {
  record.needMain(3);
  if (record.blockId !== 1 && record.blockId !== 3) record.needData(4);
  switch (record.blockId) {
    case 0:
      initHashPage(record.blockNumber(1), peek32(record.dataAt), LH_OVERFLOW_PAGE);
      break;
    case 1:
      setNext(record.blockNumber(0));
      break;
    case 2:
      changeBit(peek32(record.dataAt), true);
      break;
    case 3:
      initBitmapPage(peek16(record.mainAt));
      break;
    default:
      setFirstFree(peek32(record.dataAt));
      if (peek8(record.mainAt + 2) !== 0) break;
      addSparePages(1);
      if (record.blockNumber(3) === NO_BLOCK) break;
      addBitmapPage(record.blockNumber(3));
      addSparePages(1);
  }
  return true;
}

/** Block 0: old bucket; 1: new bucket; 2: the meta page. Main data: u32 new bucket, u16 flags of old, u16 of new, u8 what of the meta page changes. */
function allocateBucket(record: SlimRecord): boolean {
  record.needMain(9);
  const bucket = peek32(record.mainAt);
  if (record.blockId === 0) {
    setFlags(peek16(record.mainAt + 4));
    setPrevious(bucket);
  } else if (record.blockId === 1) {
    initHashPage(bucket, bucket, peek16(record.mainAt + 6));
  } else {
    const flags = peek8(record.mainAt + 8);
    const masks = (flags & SPLIT_META_UPDATE_MASKS) !== 0;
    const splits = (flags & SPLIT_META_UPDATE_SPLITPOINT) !== 0;
    record.needData((masks ? 8 : 0) + (splits ? 8 : 0));
    startBucket(bucket, record.dataAt, masks, splits);
  }
  return true;
}

/** Block 0: old bucket; 1: new bucket. Main data: u16 flags of each. */
function completeSplit(record: SlimRecord): boolean {
  record.needMain(4);
  setFlags(peek16(record.mainAt + 2 * Math.min(record.blockId, 1)));
  return true;
}

/** Block 0: the bucket; 1: the page that gets tuples; 2: the page that loses them. Main data: u16 count. */
function moveContents(record: SlimRecord): boolean {
  record.needMain(3);
  if (record.blockId === 0) return false;
  if (record.blockId === 1) addTuplesAt(record, peek16(record.mainAt));
  else deleteListed(record);
  return true;
}

/** Block data: u16 line for each tuple, then the tuples. */
function addTuplesAt(record: SlimRecord, count: number): void {
  if (count === 0) return;
  record.needData(2 * count);
  let at = record.dataAt + 2 * count;
  for (let i = 0; i < count; i++) {
    record.needData(at + TUPLE_HEADER_BYTES - record.dataAt);
    const bytes = maxAlign(tupleSize(at));
    record.needData(at + bytes - record.dataAt);
    insertItem(PAGE, at, bytes, peek16(record.dataAt + 2 * i));
    at += bytes;
  }
  if (at !== record.dataAt + record.dataBytes) throw corruptPage(`${count} tuples leave bytes of block data over`);
}

/** Block data: u16 lines. */
function deleteListed(record: SlimRecord): void {
  const count = record.dataBytes >>> 1;
  if (count > 0) deleteIndexItems(PAGE, record.dataAt, count);
}

/**
 * Block 0: the bucket; 1: the page that gets tuples; 2: the overflow page that becomes free; 3 and 4: its neighbours; 5: the bitmap;
 * 6: the meta page. Main data: u32 previous, u32 next page, u16 count, u8 whether 1 is the bucket, u8 whether 1 is the previous page.
 */
function squeeze(record: SlimRecord): boolean {
  record.needMain(12);
  const next = peek32(record.mainAt + 4);
  if (record.blockId >= 5) record.needData(4);
  switch (record.blockId) {
    case 0:
      return false;
    case 1:
      addTuplesAt(record, peek16(record.mainAt + 8));
      if (peek8(record.mainAt + 11) !== 0) setNext(next);
      break;
    case 2:
      initUnusedPage();
      break;
    case 3:
      setNext(next);
      break;
    case 4:
      setPrevious(peek32(record.mainAt));
      break;
    case 5:
      changeBit(peek32(record.dataAt), false);
      break;
    default:
      setFirstFree(peek32(record.dataAt));
  }
  return true;
}

/** Block 0: the bucket; 1: the page. Main data: u8 whether no dead tuples are left. */
function deleteTuples(record: SlimRecord): boolean {
  record.needMain(2);
  if (record.blockId === 0) return false;
  deleteListed(record);
  if (peek8(record.mainAt) !== 0) clearFlags(LH_HAS_DEAD_TUPLES);
  return true;
}

function cleanUpSplit(): boolean {
  clearFlags(LH_NEEDS_SPLIT_CLEANUP);
  return true;
}

function updateMeta(record: SlimRecord): boolean {
  record.needMain(8);
  setTuples(peekFloat64(record.mainAt));
  return true;
}

/** Block 0: the page; 1: the meta page. Main data: u32 xid, i32 count, u16 lines. */
function vacuumPage(record: SlimRecord): boolean {
  record.needMain(8);
  if (record.blockId === 1) {
    addTuples(-(peek32(record.mainAt + 4) | 0));
  } else {
    deleteIndexItems(PAGE, record.mainAt + 8, (record.mainBytes - 8) >>> 1);
    clearFlags(LH_HAS_DEAD_TUPLES);
  }
  return true;
}
