/**
 * Records about SLRU pages: pg_xact (resource manager 3), pg_multixact (6) and pg_commit_ts (18).
 *
 *   pg_xact zero page        i32 page                       truncate  i32 first page that stays, u32 oldest xid, u32 its database
 *   pg_commit_ts zero page   i32 page                       truncate  i32 first page that stays, u32 oldest xid
 *   multixact zero pages     i32 page
 *   multixact create         u32 multixact, u32 first member number, i32 n, n × { u32 xid, u32 status }
 *   multixact truncate       u32 database, u32 start and u32 end multixact, u32 start and u32 end member
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import {
  CLOG_TRUNCATE,
  CLOG_ZEROPAGE,
  COMMIT_TS_TRUNCATE,
  COMMIT_TS_ZEROPAGE,
  XLOG_MULTIXACT_CREATE_ID,
  XLOG_MULTIXACT_TRUNCATE_ID,
  XLOG_MULTIXACT_ZERO_MEM_PAGE,
  XLOG_MULTIXACT_ZERO_OFF_PAGE,
} from '#shared/postgres/rmgr.js';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  multiMemberPage,
  multiOffsetByte,
  multiOffsetPage,
  SLRU_PAGES_PER_SEGMENT,
  slruSegment,
} from '#shared/postgres/slru.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import {
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  type SlruKind,
} from '../keyspace.js';
import { multixactMemberChanges, multixactOffsetChanges } from '../redo/page-effects.js';
import type { HeadState } from './head-state.js';

const MULTI_FIRST = 1;
const MULTI_MAX = 0xffff_ffff;
const MEMBER_BYTES = 8;

export function ingestClog(head: HeadState, record: WalRecord): void {
  const operation = record.info & XLR_RMGR_INFO_MASK;
  const reader = new MainDataReader(record);
  const page = reader.u32();
  if (operation === CLOG_ZEROPAGE) {
    head.slrus.zeroPage(SLRU_CLOG, checkPage(page, CLOG_XACTS_PER_PAGE), record.endLsn);
  } else if (operation === CLOG_TRUNCATE) {
    truncateBefore(head, SLRU_CLOG, checkPage(page, CLOG_XACTS_PER_PAGE), CLOG_XACTS_PER_PAGE);
  } else {
    throw reader.corrupt('there is no such pg_xact record');
  }
}

export function ingestCommitTs(head: HeadState, record: WalRecord): void {
  const operation = record.info & XLR_RMGR_INFO_MASK;
  const reader = new MainDataReader(record);
  const page = checkPage(reader.u32(), COMMIT_TS_XACTS_PER_PAGE);
  if (operation === COMMIT_TS_ZEROPAGE) head.slrus.zeroPage(SLRU_COMMIT_TS, page, record.endLsn);
  else if (operation === COMMIT_TS_TRUNCATE) truncateBefore(head, SLRU_COMMIT_TS, page, COMMIT_TS_XACTS_PER_PAGE);
  else throw reader.corrupt('there is no such pg_commit_ts record');
}

/** `nextMulti`: the next multixact before this record. */
export function ingestMultixact(head: HeadState, record: WalRecord, nextMulti: number): void {
  const reader = new MainDataReader(record);
  const lsn = record.endLsn;
  switch (record.info & XLR_RMGR_INFO_MASK) {
    case XLOG_MULTIXACT_ZERO_OFF_PAGE:
      return zeroOffsetsPage(head, checkPage(reader.u32(), MULTIXACT_OFFSETS_PER_PAGE), nextMulti, lsn);
    case XLOG_MULTIXACT_ZERO_MEM_PAGE: {
      const page = reader.u32();
      if (page > multiMemberPage(MULTI_MAX)) throw reader.corrupt(`there is no members page ${page}`);
      return head.slrus.zeroPage(SLRU_MULTIXACT_MEMBERS, page, lsn);
    }
    case XLOG_MULTIXACT_CREATE_ID:
      return createMultixact(head, reader, lsn);
    case XLOG_MULTIXACT_TRUNCATE_ID:
      return truncateMultixacts(head, reader);
    default:
      throw reader.corrupt('there is no such multixact record');
  }
}

/**
 * Old minor releases log a new offsets page only with its first multixact, when creating the last one of the page before has already
 * written there (multixactOffsetChanges): then the page must keep what it has.
 */
function zeroOffsetsPage(head: HeadState, page: number, nextMulti: number, lsn: Lsn): void {
  const alreadyBegun =
    multiOffsetPage(nextMulti) === page &&
    (multiOffsetByte(nextMulti) === 0 || nextMulti === MULTI_FIRST) &&
    head.slrus.hasPage(SLRU_MULTIXACT_OFFSETS, page);
  if (!alreadyBegun) head.slrus.zeroPage(SLRU_MULTIXACT_OFFSETS, page, lsn);
}

function createMultixact(head: HeadState, reader: MainDataReader, lsn: Lsn): void {
  const multi = reader.u32();
  const firstMember = reader.u32();
  const count = reader.count(MEMBER_BYTES);
  const members = Array.from({ length: count }, () => ({ xid: reader.u32(), status: reader.u32() }));
  if (multi < MULTI_FIRST) throw reader.corrupt('multixact 0 does not exist');
  for (const { pageNumber, value } of multixactOffsetChanges(multi, firstMember, count)) {
    head.slrus.changePage(SLRU_MULTIXACT_OFFSETS, pageNumber, lsn, value);
  }
  for (const { pageNumber, value } of multixactMemberChanges(firstMember, members)) {
    head.slrus.changePage(SLRU_MULTIXACT_MEMBERS, pageNumber, lsn, value);
  }
}

/** Member segments go in a circle from the old oldest member to the new one; offsets like pg_xact, by age. */
function truncateMultixacts(head: HeadState, reader: MainDataReader): void {
  reader.take(8);
  const oldestMulti = reader.u32();
  const startMember = reader.u32();
  const endMember = reader.u32();
  const lastSegment = slruSegment(multiMemberPage(MULTI_MAX));
  const end = slruSegment(multiMemberPage(endMember));
  for (let segno = slruSegment(multiMemberPage(startMember)); segno !== end;) {
    head.slrus.drop(SLRU_MULTIXACT_MEMBERS, segno);
    segno = segno === lastSegment ? 0 : segno + 1;
  }
  const newest = oldestMulti <= MULTI_FIRST ? MULTI_MAX : oldestMulti - 1;
  truncateBefore(head, SLRU_MULTIXACT_OFFSETS, multiOffsetPage(newest), MULTIXACT_OFFSETS_PER_PAGE);
}

/** Segments of which every page is wholly older than `firstKept` in the circle of 2^32 numbers. */
function truncateBefore(head: HeadState, kind: SlruKind, firstKept: number, perPage: number): void {
  for (const segno of head.slrus.existing(kind)) {
    const first = segno * SLRU_PAGES_PER_SEGMENT;
    const last = first + SLRU_PAGES_PER_SEGMENT - 1;
    if (isOlderPage(first, firstKept, perPage) && isOlderPage(last, firstKept, perPage)) head.slrus.drop(kind, segno);
  }
}

function isOlderPage(page: number, other: number, perPage: number): boolean {
  const distance = (page - other) * perPage;
  return (distance | 0) < 0 && ((distance - (perPage - 1)) | 0) < 0;
}

function checkPage(page: number, perPage: number): number {
  if (page < 0x1_0000_0000 / perPage) return page;
  throw new StorageError('corrupt', `there is no SLRU page ${page}`);
}
