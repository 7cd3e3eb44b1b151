/**
 * Redo of the SP-GiST resource manager. All of a record is in its main data; blocks carry none. Where main data holds "state", it is
 * u32 xid for redirections and u8 whether the index is being built, when placeholders take their place.
 */
import { StorageError } from '#shared/core/errors.js';
import { PAGE, peek16, peek32, peek8 } from './arena.js';
import { corruptPage, deleteIndexItems, lineAddress, lineWord, setPageLsn } from './page.js';
import { NO_BLOCK, type SlimRecord } from './slim-record.js';
import {
  addOrReplace,
  countPlaceholders,
  countRedirections,
  DEAD,
  initSpgistPage,
  innerTupleSize,
  LEAF,
  leafTupleSize,
  NOWHERE,
  NULLS,
  PLACEHOLDER,
  REDIRECT,
  redirectionToPlaceholder,
  removePlaceholdersFrom,
  replaceAllByDead,
  replaceByDead,
  replaceTuple,
  setDownlink,
  setNextInChain,
  swapLines,
  type Target,
} from './spgist-page.js';

const ADD_LEAF = 0x10;
const MOVE_LEAFS = 0x20;
const ADD_NODE = 0x30;
const SPLIT_TUPLE = 0x40;
const PICKSPLIT = 0x50;
const VACUUM_LEAF = 0x60;
const VACUUM_ROOT = 0x70;
const VACUUM_REDIRECT = 0x80;

const TUPLE_HEADER_BYTES = 8;
const ALL_PLACEHOLDERS = { first: PLACEHOLDER, rest: PLACEHOLDER };
const REDIRECT_FIRST = { first: REDIRECT, rest: PLACEHOLDER };
const ALL_DEAD = { first: DEAD, rest: DEAD };

/** Reused for every record. */
const target: Target = { block: 0, line: 0 };

export function redoSpgist(record: SlimRecord): void {
  switch (record.info) {
    case ADD_LEAF:
      addLeaf(record);
      break;
    case MOVE_LEAFS:
      moveLeafs(record);
      break;
    case ADD_NODE:
      addNode(record);
      break;
    case SPLIT_TUPLE:
      splitTuple(record);
      break;
    case PICKSPLIT:
      pickSplit(record);
      break;
    case VACUUM_LEAF:
      vacuumLeaf(record);
      break;
    case VACUUM_ROOT:
      record.needMain(12);
      record.needMain(12 + 2 * peek16(record.mainAt));
      deleteIndexItems(PAGE, record.mainAt + 12, peek16(record.mainAt));
      break;
    case VACUUM_REDIRECT:
      vacuumRedirect(record);
      break;
    default:
      throw new StorageError('corrupt', `SP-GiST operation ${record.info} changes no page`);
  }
  setPageLsn(PAGE, record.endLsn);
}

function pointTo(block: number, line: number): Readonly<Target> {
  target.block = block;
  target.line = line;
  return target;
}

/** Bytes of the leaf tuple at `at` in main data, checked to lie inside. */
function leafBytes(record: SlimRecord, at: number): number {
  record.needMain(at + TUPLE_HEADER_BYTES - record.mainAt);
  const bytes = leafTupleSize(at);
  if (bytes < TUPLE_HEADER_BYTES) throw corruptPage(`a leaf tuple of ${bytes} bytes`);
  record.needMain(at + bytes - record.mainAt);
  return bytes;
}

function innerBytes(record: SlimRecord, at: number): number {
  record.needMain(at + TUPLE_HEADER_BYTES - record.mainAt);
  const bytes = innerTupleSize(at);
  if (bytes < TUPLE_HEADER_BYTES) throw corruptPage(`an inner tuple of ${bytes} bytes`);
  record.needMain(at + bytes - record.mainAt);
  return bytes;
}

function initLeafPage(storesNulls: number): void {
  initSpgistPage(storesNulls !== 0 ? LEAF | NULLS : LEAF);
}

/**
 * Block 0: the leaf page; 1: the parent. Main data: u8 new page, u8 nulls, u16 line, u16 line of the chain's head, u16 line and u16 node
 * in the parent, the tuple.
 */
function addLeaf(record: SlimRecord): void {
  record.needMain(10);
  const at = record.mainAt;
  const line = peek16(at + 2);
  const head = peek16(at + 4);
  if (record.blockId === 1) {
    setDownlink(peek16(at + 6), peek16(at + 8), pointTo(record.blockNumber(0), line));
    return;
  }
  const bytes = leafBytes(record, at + 10);
  if (peek8(at) !== 0) initLeafPage(peek8(at + 1));
  if (line === head) {
    replaceTuple(at + 10, bytes, line);
    return;
  }
  addOrReplace(at + 10, bytes, line);
  if (head !== 0) setNextInChain(head, line);
}

/**
 * Block 0: where tuples come from; 1: where they go; 2: the parent. Main data: u16 moves, u8 new page, u8 in the place of a dead tuple,
 * u8 nulls, pad, u16 line and u16 node in the parent, pad, state, u16 lines that go, u16 lines that come, the tuples.
 */
function moveLeafs(record: SlimRecord): void {
  record.needMain(20);
  const at = record.mainAt;
  const moves = peek16(at);
  const inserts = peek8(at + 3) !== 0 ? 1 : moves + 1;
  const goes = at + 20;
  const comes = goes + 2 * moves;
  let tuple = comes + 2 * inserts;
  record.needMain(tuple - at);
  const to = pointTo(record.blockNumber(1), peek16(comes + 2 * (inserts - 1)));
  if (record.blockId === 0) {
    const states = peek8(at + 16) !== 0 ? ALL_PLACEHOLDERS : REDIRECT_FIRST;
    replaceAllByDead(goes, moves, states, peek32(at + 12), to);
  } else if (record.blockId === 1) {
    if (peek8(at + 2) !== 0) initLeafPage(peek8(at + 4));
    for (let i = 0; i < inserts; i++) {
      const bytes = leafBytes(record, tuple);
      addOrReplace(tuple, bytes, peek16(comes + 2 * i));
      tuple += bytes;
    }
  } else {
    setDownlink(peek16(at + 6), peek16(at + 8), to);
  }
}

/**
 * Block 0: the old place; 1: the new place, if another; 2: the parent, if on neither. Main data: u16 old line, u16 new line, u8 new page,
 * i8 block id of the parent or -1, u16 line and u16 node in the parent, pad, state, the tuple.
 */
function addNode(record: SlimRecord): void {
  record.needMain(20);
  const at = record.mainAt;
  const bytes = innerBytes(record, at + 20);
  const oldLine = peek16(at);
  if (record.blockNumber(1) === NO_BLOCK) {
    replaceTuple(at + 20, bytes, oldLine);
    return;
  }
  const to = pointTo(record.blockNumber(1), peek16(at + 2));
  if (record.blockId === 0) {
    const isBuild = peek8(at + 16) !== 0;
    replaceByDead(oldLine, isBuild ? PLACEHOLDER : REDIRECT, peek32(at + 12), to);
  } else if (record.blockId === 1) {
    if (peek8(at + 4) !== 0) initSpgistPage(0);
    addOrReplace(at + 20, bytes, to.line);
  }
  if (peek8(at + 5) === record.blockId) setDownlink(peek16(at + 6), peek16(at + 8), to);
}

/**
 * Block 0: where the prefix tuple goes, in the place of the old; 1: where the postfix tuple goes, if on another page.
 * Main data: u16 line of the prefix, u16 line of the postfix, u8 new page, u8 same page, the two tuples.
 */
function splitTuple(record: SlimRecord): void {
  record.needMain(6);
  const at = record.mainAt;
  const prefix = at + 6;
  const prefixBytes = innerBytes(record, prefix);
  const postfix = prefix + prefixBytes;
  const postfixBytes = innerBytes(record, postfix);
  if (record.blockId === 1) {
    if (peek8(at + 4) !== 0) initSpgistPage(0);
    addOrReplace(postfix, postfixBytes, peek16(at + 2));
    return;
  }
  replaceTuple(prefix, prefixBytes, peek16(at));
  if (peek8(at + 5) !== 0) addOrReplace(postfix, postfixBytes, peek16(at + 2));
}

/**
 * Block 0: where the leaf tuples were, unless it was the root; 1: a second page for them; 2: the page of the new inner tuple; 3: its
 * parent, if on another page. Main data: u8 root split, pad, u16 deletes, u16 inserts, u8 new block 0, u8 new block 1, u16 line of the
 * inner tuple, u8 new block 2, u8 nulls, u8 parent is on block 2, pad, u16 line and u16 node in the parent, pad, state, u16 lines to
 * delete, u16 lines to insert, u8 page of each, the inner tuple, the leaf tuples.
 */
function pickSplit(record: SlimRecord): void {
  record.needMain(28);
  const at = record.mainAt;
  const innerLine = peek16(at + 8);
  const deletes = peek16(at + 2);
  const inserts = peek16(at + 4);
  const insertLines = at + 28 + 2 * deletes;
  const inner = insertLines + 3 * inserts;
  record.needMain(inner - at);
  const innerTupleBytes = innerBytes(record, inner);
  const to = pointTo(record.blockNumber(2), innerLine);
  const nulls = peek8(at + 11);
  if (record.blockId >= 2) {
    if (record.blockId === 2) {
      if (peek8(at + 10) !== 0) initSpgistPage(nulls !== 0 ? NULLS : 0);
      addOrReplace(inner, innerTupleBytes, innerLine);
    }
    if (record.blockId === 3 || peek8(at + 12) !== 0) setDownlink(peek16(at + 14), peek16(at + 16), to);
    return;
  }
  if (peek8(at + 6 + record.blockId) !== 0) initLeafPage(nulls);
  else if (record.blockId === 0) {
    const isBuild = peek8(at + 24) !== 0;
    const states = isBuild ? ALL_PLACEHOLDERS : REDIRECT_FIRST;
    replaceAllByDead(at + 28, deletes, states, peek32(at + 20), isBuild ? NOWHERE : to);
  }
  let tuple = inner + innerTupleBytes;
  for (let i = 0; i < inserts; i++) {
    const bytes = leafBytes(record, tuple);
    const block = peek8(insertLines + 2 * inserts + i) !== 0 ? 1 : 0;
    if (block === record.blockId) addOrReplace(tuple, bytes, peek16(insertLines + 2 * i));
    tuple += bytes;
  }
}

/**
 * Main data: u16 to become dead, u16 to become placeholders, u16 moves, u16 chain links, state, then the u16 lines of each; of moves
 * first all sources, then all destinations, and so of links.
 */
function vacuumLeaf(record: SlimRecord): void {
  record.needMain(16);
  const at = record.mainAt;
  const [dead, placeholders, moves, links] = [peek16(at), peek16(at + 2), peek16(at + 4), peek16(at + 6)];
  record.needMain(16 + 2 * (dead + placeholders + 2 * moves + 2 * links));
  const placeholdersAt = at + 16 + 2 * dead;
  const movesAt = placeholdersAt + 2 * placeholders;
  const linksAt = movesAt + 4 * moves;
  replaceAllByDead(at + 16, dead, ALL_DEAD, 0, NOWHERE);
  replaceAllByDead(placeholdersAt, placeholders, ALL_PLACEHOLDERS, 0, NOWHERE);
  for (let i = 0; i < moves; i++) {
    const source = peek16(movesAt + 2 * i);
    const destination = peek16(movesAt + 2 * (moves + i));
    lineWord(PAGE, source);
    lineWord(PAGE, destination);
    swapLines(lineAddress(PAGE, source), lineAddress(PAGE, destination));
  }
  replaceAllByDead(movesAt, moves, ALL_PLACEHOLDERS, 0, NOWHERE);
  for (let i = 0; i < links; i++) {
    setNextInChain(peek16(linksAt + 2 * i), peek16(linksAt + 2 * (links + i)));
  }
}

/** Main data: u16 redirections to become placeholders, u16 first placeholder to remove or 0, u32 xid, the u16 lines. */
function vacuumRedirect(record: SlimRecord): void {
  record.needMain(8);
  const at = record.mainAt;
  const count = peek16(at);
  record.needMain(8 + 2 * count);
  for (let i = 0; i < count; i++) redirectionToPlaceholder(peek16(at + 8 + 2 * i));
  countRedirections(-count);
  countPlaceholders(count);
  if (peek16(at + 2) !== 0) removePlaceholdersFrom(peek16(at + 2));
}
