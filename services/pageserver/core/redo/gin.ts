/** Redo of the GIN resource manager. Page splits and vacuums of entry pages come as block images and need no code. */
import { StorageError } from '#shared/core/errors.js';
import { PD_PRUNE_XID } from '#shared/postgres/page-layout.js';
import { move, PAGE, peek16, peek32, peek8, poke16, store32 } from './arena.js';
import { setTupleBlock, tupleSize, TUPLE_HEADER_BYTES } from './btree-tuple.js';
import {
  deletePostingItem,
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DELETED,
  GIN_INCOMPLETE_SPLIT,
  GIN_LEAF,
  GIN_LIST,
  GIN_LIST_FULLROW,
  ginCount,
  ginFlags,
  initGinPage,
  insertPostingItem,
  META_BYTES,
  POSTING_DATA,
  POSTING_DATA_END_MAX,
  restoreGinMeta,
  setGinCount,
  setGinFlags,
  setPostingDataEnd,
  setRightLink,
} from './gin-page.js';
import { recompress } from './gin-posting.js';
import { corruptPage, deleteIndexItem, insertItem, itemAddress, lineCount, setPageLsn } from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';

const CREATE_PTREE = 0x10;
const INSERT = 0x20;
const SPLIT = 0x30;
const DELETE_PAGE = 0x50;
const UPDATE_META_PAGE = 0x60;
const INSERT_LISTPAGE = 0x70;
const DELETE_LISTPAGE = 0x80;
const VACUUM_DATA_LEAF_PAGE = 0x90;

const INSERT_ISDATA = 0x01;
const INSERT_ISLEAF = 0x02;

const META_AT = 16;
const UPDATE_META_BYTES = 84;
const POSTING_ITEM_BYTES = 10;

export function redoGin(record: SlimRecord): void {
  switch (record.info) {
    case CREATE_PTREE:
      createPostingTree(record);
      break;
    case INSERT:
      insert(record);
      break;
    case SPLIT:
      // Blocks 0 to 2 are images; block 3 is the child whose split is complete now.
      if (record.blockId !== 3) throw corruptPage('a page split without images');
      clearIncompleteSplit();
      break;
    case DELETE_PAGE:
      deletePage(record);
      break;
    case UPDATE_META_PAGE:
      updateMeta(record);
      break;
    case INSERT_LISTPAGE:
      insertListPage(record);
      break;
    case DELETE_LISTPAGE:
      record.needMain(META_BYTES);
      if (record.blockId === 0) restoreGinMeta(record.mainAt);
      else initGinPage(GIN_DELETED);
      break;
    case VACUUM_DATA_LEAF_PAGE:
      recompress(record, record.dataAt);
      break;
    default:
      throw new StorageError('corrupt', `GIN operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

function clearIncompleteSplit(): void {
  setGinFlags(ginFlags() & ~GIN_INCOMPLETE_SPLIT);
}

/** Main data: u32 bytes of the posting lists, the lists. */
function createPostingTree(record: SlimRecord): void {
  record.needMain(4);
  const bytes = peek32(record.mainAt);
  record.needMain(4 + bytes);
  initGinPage(GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  if (POSTING_DATA + bytes > POSTING_DATA_END_MAX) throw corruptPage(`posting lists of ${bytes} bytes do not fit`);
  move(POSTING_DATA, record.mainAt + 4, bytes);
  setPostingDataEnd(POSTING_DATA + bytes);
}

/** Block 0: the page; 1: the child whose split is complete now. Main data: u16 flags; for internal pages u16 u16 left, u16 u16 right child. */
function insert(record: SlimRecord): void {
  if (record.blockId === 1) return clearIncompleteSplit();
  record.needMain(2);
  const flags = peek16(record.mainAt);
  const isLeaf = (flags & INSERT_ISLEAF) !== 0;
  if (!isLeaf) record.needMain(10);
  const rightChild = isLeaf ? NO_BLOCK : peek16(record.mainAt + 6) * 0x1_0000 + peek16(record.mainAt + 8);
  if ((flags & INSERT_ISDATA) === 0) return insertEntry(record, rightChild);
  if (isLeaf) return recompress(record, record.dataAt);
  record.needData(2 + POSTING_ITEM_BYTES);
  insertPostingItem(peek16(record.dataAt), rightChild, record.dataAt + 2);
}

/** Block data: u16 line, u8 whether the tuple takes the place of the one there, pad, the tuple. */
function insertEntry(record: SlimRecord, rightChild: number): void {
  record.needData(4 + TUPLE_HEADER_BYTES);
  const line = peek16(record.dataAt);
  const tuple = record.dataAt + 4;
  record.needData(4 + tupleSize(tuple));
  if (rightChild !== NO_BLOCK) {
    const old = itemAddress(PAGE, line, TUPLE_HEADER_BYTES);
    setTupleBlock(old, rightChild);
    poke16(old + 4, 0);
  }
  if (peek8(record.dataAt + 2) !== 0) deleteIndexItem(PAGE, line);
  insertItem(PAGE, tuple, tupleSize(tuple), line);
}

/** Block 0: the page; 1: its parent; 2: its left sibling. Main data: u16 item in the parent, pad, u32 right link, u32 xid. */
function deletePage(record: SlimRecord): void {
  record.needMain(12);
  if (record.blockId === 1) return deletePostingItem(peek16(record.mainAt));
  if (record.blockId === 2) return setRightLink(peek32(record.mainAt + 4));
  setGinFlags(ginFlags() | GIN_DELETED);
  store32(PAGE + PD_PRUNE_XID, peek32(record.mainAt + 8));
}

/**
 * Block 0: the meta page; 1: the tail of the pending list, which gets tuples or a right link.
 * Main data: relation, pad, meta page, u32 old tail, u32 right link, i32 tuples.
 */
function updateMeta(record: SlimRecord): void {
  record.needMain(UPDATE_META_BYTES);
  if (record.blockId === 0) return restoreGinMeta(record.mainAt + META_AT);
  const count = peek32(record.mainAt + META_AT + META_BYTES + 8) | 0;
  if (count <= 0) return setRightLink(peek32(record.mainAt + META_AT + META_BYTES + 4));
  appendTuples(record, count);
  // They are of one row.
  setGinCount(ginCount() + 1);
}

/** Main data: u32 right link, i32 tuples. The last page of a row's tuples has no right link. */
function insertListPage(record: SlimRecord): void {
  record.needMain(8);
  const rightLink = peek32(record.mainAt);
  const isLast = rightLink === NO_BLOCK;
  initGinPage(isLast ? GIN_LIST | GIN_LIST_FULLROW : GIN_LIST);
  setRightLink(rightLink);
  setGinCount(isLast ? 1 : 0);
  appendTuples(record, peek32(record.mainAt + 4) | 0);
}

/** Block data: tuples, one behind the other. */
function appendTuples(record: SlimRecord, count: number): void {
  let at = record.dataAt;
  for (let i = 0; i < count; i++) {
    record.needData(at + TUPLE_HEADER_BYTES - record.dataAt);
    const bytes = tupleSize(at);
    record.needData(at + bytes - record.dataAt);
    insertItem(PAGE, at, bytes, lineCount(PAGE) + 1);
    at += bytes;
  }
}
