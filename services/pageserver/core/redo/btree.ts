/**
 * Redo of the btree resource manager. Each block of a record is redone by itself: everything that a page takes from another one is in
 * the record.
 */
import { PAGE_HEADER_BYTES, PD_LOWER, PD_SPECIAL, PD_UPPER } from '#shared/postgres/page-layout.js';
import { StorageError } from '#shared/core/errors.js';
import { load16, move, PAGE, peek16, peek32, SCRATCH, store16 } from './arena.js';
import { redoBtreeDedup, redoBtreeDeletes, redoBtreeInsertPosting } from './btree-leaf.js';
import {
  BTP_DELETED,
  BTP_HALF_DEAD,
  BTP_HAS_FULLXID,
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  BTP_ROOT,
  clearFlag,
  initBtreePage,
  restoreItems,
  restoreMetaPage,
  setLeftSibling,
  setRightSibling,
} from './btree-page.js';
import { redoBtreeSplit } from './btree-split.js';
import { setTupleBlock, tupleBlock, TUPLE_HEADER_BYTES, writeTopParent } from './btree-tuple.js';
import { deleteIndexItem, insertItem, itemAddress, setPageLsn } from './page.js';
import type { SlimRecord } from './slim-record.js';

const INSERT_LEAF = 0x00;
const INSERT_UPPER = 0x10;
const INSERT_META = 0x20;
const SPLIT_L = 0x30;
const SPLIT_R = 0x40;
const INSERT_POST = 0x50;
const DEDUP = 0x60;
const DELETE = 0x70;
const UNLINK_PAGE = 0x80;
const UNLINK_PAGE_META = 0x90;
const NEWROOT = 0xa0;
const MARK_PAGE_HALFDEAD = 0xb0;
const VACUUM = 0xc0;
const META_CLEANUP = 0xe0;

const HALFDEAD_BYTES = 20;
const UNLINK_BYTES = 36;
const NEWROOT_BYTES = 8;
/** Of u16 deleted, u16 updated in main data. */
const VACUUM_COUNTS_AT = 0;
const DELETE_COUNTS_AT = 4;

export function redoBtree(record: SlimRecord): void {
  switch (record.info) {
    case INSERT_LEAF:
    case INSERT_UPPER:
    case INSERT_META:
      insert(record);
      break;
    case INSERT_POST:
      redoBtreeInsertPosting(record);
      break;
    case SPLIT_L:
    case SPLIT_R:
      redoBtreeSplit(record, record.info === SPLIT_L);
      break;
    case DEDUP:
      redoBtreeDedup(record);
      break;
    case DELETE:
      redoBtreeDeletes(record, DELETE_COUNTS_AT);
      break;
    case VACUUM:
      redoBtreeDeletes(record, VACUUM_COUNTS_AT);
      break;
    case UNLINK_PAGE:
    case UNLINK_PAGE_META:
      unlinkPage(record);
      break;
    case NEWROOT:
      newRoot(record);
      break;
    case MARK_PAGE_HALFDEAD:
      markHalfDead(record);
      break;
    case META_CLEANUP:
      restoreMetaPage(record);
      break;
    default:
      throw new StorageError('corrupt', `btree operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

/** Block 0: the page; 1: for internal pages, the child whose split is complete now; 2: the meta page. */
function insert(record: SlimRecord): void {
  if (record.blockId === 1) return clearFlag(PAGE, BTP_INCOMPLETE_SPLIT);
  if (record.blockId === 2) return restoreMetaPage(record);
  record.needMain(2);
  record.needData(TUPLE_HEADER_BYTES);
  insertItem(PAGE, record.dataAt, record.dataBytes, peek16(record.mainAt));
}

/** Block 0: the new root, with two tuples if the old root was split; 1: the old root; 2: the meta page. */
function newRoot(record: SlimRecord): void {
  if (record.blockId === 1) return clearFlag(PAGE, BTP_INCOMPLETE_SPLIT);
  if (record.blockId === 2) return restoreMetaPage(record);
  record.needMain(NEWROOT_BYTES);
  const level = peek32(record.mainAt + 4);
  initBtreePage(0, 0, level, BTP_ROOT | (level === 0 ? BTP_LEAF : 0));
  if (level > 0) restoreItems(record.dataAt, record.dataAt + record.dataBytes);
}

/**
 * Block 0: the leaf; 1: the parent, where the leaf's downlink goes away and the one behind takes its key.
 * Main data: u16 line in the parent, pad, u32 leaf, left, right, top parent.
 */
function markHalfDead(record: SlimRecord): void {
  record.needMain(HALFDEAD_BYTES);
  if (record.blockId === 0) {
    makeHalfDead(peek32(record.mainAt + 8), peek32(record.mainAt + 12), peek32(record.mainAt + 16));
    return;
  }
  const line = peek16(record.mainAt);
  const next = itemAddress(PAGE, line + 1, TUPLE_HEADER_BYTES);
  setTupleBlock(itemAddress(PAGE, line, TUPLE_HEADER_BYTES), tupleBlock(next));
  deleteIndexItem(PAGE, line + 1);
}

function makeHalfDead(left: number, right: number, topParent: number): void {
  initBtreePage(left, right, 0, BTP_HALF_DEAD | BTP_LEAF);
  writeTopParent(SCRATCH, topParent);
  insertItem(PAGE, SCRATCH, TUPLE_HEADER_BYTES, 1);
}

/**
 * Block 0: the deleted page; 1 and 2: its siblings; 3: the half-dead leaf below, when the page is internal; 4: the meta page.
 * Main data: u32 left, right, level, pad, u64 safe xid, u32 left, right, top parent of the leaf.
 */
function unlinkPage(record: SlimRecord): void {
  record.needMain(UNLINK_BYTES);
  const left = peek32(record.mainAt);
  const right = peek32(record.mainAt + 4);
  switch (record.blockId) {
    case 0: {
      const level = peek32(record.mainAt + 8);
      initBtreePage(left, right, level, BTP_DELETED | BTP_HAS_FULLXID | (level === 0 ? BTP_LEAF : 0));
      move(PAGE + PAGE_HEADER_BYTES, record.mainAt + 16, 8);
      store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + 8);
      return store16(PAGE + PD_UPPER, load16(PAGE + PD_SPECIAL));
    }
    case 1:
      return setRightSibling(PAGE, right);
    case 2:
      return setLeftSibling(PAGE, left);
    case 3:
      return makeHalfDead(peek32(record.mainAt + 24), peek32(record.mainAt + 28), peek32(record.mainAt + 32));
    default:
      return restoreMetaPage(record);
  }
}
