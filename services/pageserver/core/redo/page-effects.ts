/**
 * Which pages WAL changes without naming them in a block reference, and how: visibility map bits that heap records clear, and the
 * SLRU pages of commits and multixacts. Values are neon records (neon-records.ts); ingest puts them under their keys.
 */
import { RM_HEAP, RM_HEAP2 } from '#shared/postgres/rmgr.js';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  MULTIXACT_MEMBERS_PER_PAGE,
  multiOffsetPage,
} from '#shared/postgres/slru.js';
import { XLR_RMGR_INFO_MASK, type WalRecord } from '#shared/postgres/wal-record.js';
import {
  encodeClogSet,
  encodeCommitTs,
  encodeMultixactMembers,
  encodeMultixactOffsets,
  encodeVmClear,
  VM_ALL_FROZEN,
  VM_HEAP_BLOCKS_PER_PAGE,
  VM_VALID_BITS,
  type MultixactMember,
} from './neon-records.js';

/** A change of visibility map page `mapBlock` of the relation that block reference `blockId` names. */
export interface VmChange {
  readonly blockId: number;
  readonly mapBlock: number;
  readonly value: Uint8Array;
}

export interface PageChange {
  /** Of the SLRU, counted over all segments. */
  readonly pageNumber: number;
  readonly value: Uint8Array;
}

const HEAP_OPCODES = 0x70;
const HEAP_INSERT = 0x00;
const HEAP_DELETE = 0x10;
const HEAP_UPDATE = 0x20;
const HEAP_HOT_UPDATE = 0x40;
const HEAP_LOCK = 0x60;
const HEAP2_MULTI_INSERT = 0x50;
const HEAP2_LOCK_UPDATED = 0x60;

/** Where the flags byte lies in main data. */
const INSERT_FLAGS_AT = 2;
const MULTI_INSERT_FLAGS_AT = 0;
const FLAGS_AT_7 = 7;

/** For insert, multi insert, delete: this page; for update: the page of the old row. */
const ALL_VISIBLE_CLEARED = 0x01;
const UPDATE_NEW_ALL_VISIBLE_CLEARED = 0x02;
const LOCK_ALL_FROZEN_CLEARED = 0x01;

const NO_CHANGES: readonly VmChange[] = [];
const MULTIXACT_FIRST = 1;
const MULTIXACT_MAX = 0xffff_ffff;

/** Visibility map pages that a heap or heap2 record clears bits of: at most two. */
export function vmChanges(record: WalRecord): readonly VmChange[] {
  const opcode = record.info & XLR_RMGR_INFO_MASK & HEAP_OPCODES;
  if (record.rmid === RM_HEAP) {
    if (opcode === HEAP_INSERT) return clearOne(record, INSERT_FLAGS_AT, VM_VALID_BITS);
    if (opcode === HEAP_DELETE) return clearOne(record, FLAGS_AT_7, VM_VALID_BITS);
    if (opcode === HEAP_UPDATE || opcode === HEAP_HOT_UPDATE) return clearForUpdate(record);
    if (opcode === HEAP_LOCK) return clearOne(record, FLAGS_AT_7, VM_ALL_FROZEN);
  } else if (record.rmid === RM_HEAP2) {
    if (opcode === HEAP2_MULTI_INSERT) return clearOne(record, MULTI_INSERT_FLAGS_AT, VM_VALID_BITS);
    if (opcode === HEAP2_LOCK_UPDATED) return clearOne(record, FLAGS_AT_7, VM_ALL_FROZEN);
  }
  return NO_CHANGES;
}

/** ALL_VISIBLE_CLEARED and LOCK_ALL_FROZEN_CLEARED are the same bit. */
function clearOne(record: WalRecord, flagsAt: number, bits: number): readonly VmChange[] {
  if (record.mainDataLength <= flagsAt || record.blockPresent[0] !== 1) return NO_CHANGES;
  const flags = record.bytes[record.mainDataOffset + flagsAt]!;
  if ((flags & (ALL_VISIBLE_CLEARED | LOCK_ALL_FROZEN_CLEARED)) === 0) return NO_CHANGES;
  const heapBlock = record.blockNumber[0]!;
  return [
    { blockId: 0, mapBlock: Math.floor(heapBlock / VM_HEAP_BLOCKS_PER_PAGE), value: encodeVmClear([heapBlock], bits) },
  ];
}

function clearForUpdate(record: WalRecord): readonly VmChange[] {
  if (record.mainDataLength <= FLAGS_AT_7 || record.blockPresent[0] !== 1) return NO_CHANGES;
  const flags = record.bytes[record.mainDataOffset + FLAGS_AT_7]!;
  if ((flags & (ALL_VISIBLE_CLEARED | UPDATE_NEW_ALL_VISIBLE_CLEARED)) === 0) return NO_CHANGES;
  const newBlock = record.blockNumber[0]!;
  const oldBlock = record.maxBlockId >= 1 && record.blockPresent[1] === 1 ? record.blockNumber[1]! : newBlock;
  const cleared: number[] = [];
  if (flags & ALL_VISIBLE_CLEARED) cleared.push(oldBlock);
  if (flags & UPDATE_NEW_ALL_VISIBLE_CLEARED && !cleared.includes(newBlock)) cleared.push(newBlock);
  return groupByPage(cleared, VM_HEAP_BLOCKS_PER_PAGE).map(([mapBlock, blocks]) => ({
    blockId: 0,
    mapBlock,
    value: encodeVmClear(blocks, VM_VALID_BITS),
  }));
}

function groupByPage(numbers: readonly number[], perPage: number): [number, number[]][] {
  const pages = new Map<number, number[]>();
  for (const number of numbers) {
    const pageNumber = Math.floor(number / perPage);
    const group = pages.get(pageNumber);
    if (group === undefined) pages.set(pageNumber, [number]);
    else group.push(number);
  }
  return [...pages];
}

/** pg_xact pages of a commit or abort: `xids` are the transaction and its subtransactions. */
export function clogChanges(xids: readonly number[], committed: boolean, timeUs: number): PageChange[] {
  return groupByPage(xids, CLOG_XACTS_PER_PAGE).map(([pageNumber, group]) => ({
    pageNumber,
    value: encodeClogSet(group, committed, timeUs),
  }));
}

/** pg_commit_ts pages of a commit, while commit times are kept. */
export function commitTsChanges(xids: readonly number[], timeUs: number, origin: number): PageChange[] {
  return groupByPage(xids, COMMIT_TS_XACTS_PER_PAGE).map(([pageNumber, group]) => ({
    pageNumber,
    value: encodeCommitTs(group, timeUs, origin),
  }));
}

/**
 * pg_multixact/offsets pages of a new multixact: its own first member and, as recent minor releases do, that of the next multixact,
 * which may be on the next page. Multixact 0 and member number 0 do not exist: both counters skip it.
 */
export function multixactOffsetChanges(multi: number, firstOffset: number, memberCount: number): PageChange[] {
  const next = multi === MULTIXACT_MAX ? MULTIXACT_FIRST : multi + 1;
  const nextOffset = (firstOffset + memberCount) >>> 0 || 1;
  const own = { multi, offset: firstOffset };
  const following = { multi: next, offset: nextOffset };
  const ownPage = multiOffsetPage(multi);
  const nextPage = multiOffsetPage(next);
  if (ownPage === nextPage) return [{ pageNumber: ownPage, value: encodeMultixactOffsets([own, following]) }];
  return [
    { pageNumber: ownPage, value: encodeMultixactOffsets([own]) },
    { pageNumber: nextPage, value: encodeMultixactOffsets([following]) },
  ];
}

/** pg_multixact/members pages of a new multixact. Member numbers wrap at 2^32. */
export function multixactMemberChanges(firstOffset: number, members: readonly MultixactMember[]): PageChange[] {
  const changes: PageChange[] = [];
  for (let i = 0; i < members.length;) {
    const offset = (firstOffset + i) >>> 0;
    const pageNumber = Math.floor(offset / MULTIXACT_MEMBERS_PER_PAGE);
    const room = MULTIXACT_MEMBERS_PER_PAGE - (offset % MULTIXACT_MEMBERS_PER_PAGE);
    const untilWrap = MULTIXACT_MAX + 1 - offset;
    const part = members.slice(i, i + Math.min(room, untilWrap));
    changes.push({ pageNumber, value: encodeMultixactMembers(offset, part) });
    i += part.length;
  }
  return changes;
}
