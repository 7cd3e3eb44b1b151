/**
 * Page changes that WAL implies without naming the block: ingest derives them (page-effects.ts) and stores them like slim records.
 * Little endian.
 *
 *   tag 16  visibility map bits cleared      u8 16, u8 flags 0, u8 bits, u8 count, u32[count] heap blocks (count 1 or 2)
 *   tag 17  visibility map cut short         u8 17, u8 0, u16 pad, u32 heap blocks that remain
 *   tag 18  transaction status               u8 18, u8 0, u8 status, u8 pad, u32 pad, i64 commit time in µs since 2000, u32[] xids
 *   tag 19  multixact offsets                u8 19, u8 0, u16 pad, then per entry u32 multixact, u32 its first member
 *   tag 20  multixact members                u8 20, u8 0, u16 pad, u32 first member number, then per member u32 xid, u8 status
 *   tag 21  zero page                        u8 21, u8 1
 *   tag 22  commit time                      u8 22, u8 0, u16 origin, u32 pad, i64 time in µs since 2000, u32[] xids
 *
 * A value names only things that lie on one page; which page is the caller's key. SLRU pages have no header and no LSN. Clearing
 * map bits leaves the map page's LSN alone, as the server does.
 */
import { PAGE_HEADER_BYTES } from '#shared/postgres/page-layout.js';
import { StorageError } from '#shared/core/errors.js';
import {
  clogByte,
  clogShift,
  COMMIT_TS_ENTRY_BYTES,
  commitTsByte,
  MULTIXACT_MEMBERS_PER_PAGE,
  multiMemberFlagByte,
  multiMemberXidByte,
  multiOffsetByte,
  XACT_ABORTED,
  XACT_COMMITTED,
} from '#shared/postgres/slru.js';
import { clear, memory, PAGE_BYTES, peek32, peek8, store32 } from './arena.js';
import { isNewPage } from './page.js';
import { FLAG_WILL_INIT, TAG_NEON_MIN, type SlimRecord } from './slim-record.js';

const TAG_VM_CLEAR = TAG_NEON_MIN;
const TAG_VM_TRUNCATE = TAG_NEON_MIN + 1;
const TAG_CLOG_SET = TAG_NEON_MIN + 2;
const TAG_MULTIXACT_OFFSETS = TAG_NEON_MIN + 3;
const TAG_MULTIXACT_MEMBERS = TAG_NEON_MIN + 4;
const TAG_ZERO_PAGE = TAG_NEON_MIN + 5;
const TAG_COMMIT_TS = TAG_NEON_MIN + 6;

export const VM_ALL_VISIBLE = 0x01;
export const VM_ALL_FROZEN = 0x02;
export const VM_VALID_BITS = 0x03;

/** Two bits a heap block behind the page header. */
const VM_BLOCKS_PER_BYTE = 4;
export const VM_HEAP_BLOCKS_PER_PAGE = (PAGE_BYTES - PAGE_HEADER_BYTES) * VM_BLOCKS_PER_BYTE;

const CLOG_HEADER_BYTES = 16;
const MEMBER_BYTES = 5;
const COMMIT_TS_HEADER_BYTES = 16;
const COMMIT_TS_TIME_AT = 8;
const COMMIT_TS_ORIGIN_AT = 2;

export interface MultixactMember {
  readonly xid: number;
  /** 0 key share, 1 share, 2 no key update, 3 update, 4 and 5 row updates. */
  readonly status: number;
}

function valueOf(tag: number, bytes: number): { value: Uint8Array; view: DataView } {
  const value = new Uint8Array(bytes);
  value[0] = tag;
  return { value, view: new DataView(value.buffer) };
}

/** Clears `bits` (VM_*) of one or two heap blocks whose bits are on the same map page. */
export function encodeVmClear(heapBlocks: readonly number[], bits: number): Uint8Array {
  const { value, view } = valueOf(TAG_VM_CLEAR, 4 + 4 * heapBlocks.length);
  value[2] = bits;
  value[3] = heapBlocks.length;
  heapBlocks.forEach((block, i) => view.setUint32(4 + 4 * i, block, true));
  return value;
}

/** For the last map page that stays when the heap is cut to `heapBlocks` blocks: clears the bits from there on. */
export function encodeVmTruncate(heapBlocks: number): Uint8Array {
  const { value, view } = valueOf(TAG_VM_TRUNCATE, 8);
  view.setUint32(4, heapBlocks, true);
  return value;
}

/** Sets the status of xids on one pg_xact page. `timeUs`: commit or abort time, kept for looking up LSNs by time. */
export function encodeClogSet(xids: readonly number[], committed: boolean, timeUs: number): Uint8Array {
  const { value, view } = valueOf(TAG_CLOG_SET, CLOG_HEADER_BYTES + 4 * xids.length);
  value[2] = committed ? XACT_COMMITTED : XACT_ABORTED;
  view.setBigInt64(8, BigInt(timeUs), true);
  xids.forEach((xid, i) => view.setUint32(CLOG_HEADER_BYTES + 4 * i, xid, true));
  return value;
}

/** Time of the commit (µs since 2000) that a pg_xact value records; null for other values and for aborts. */
export function clogCommitTime(value: Uint8Array): number | null {
  if (value[0] !== TAG_CLOG_SET || value[2] !== XACT_COMMITTED || value.length < CLOG_HEADER_BYTES) return null;
  return Number(new DataView(value.buffer, value.byteOffset, value.byteLength).getBigInt64(8, true));
}

/** Sets the first member number of multixacts on one pg_multixact/offsets page. */
export function encodeMultixactOffsets(entries: readonly { multi: number; offset: number }[]): Uint8Array {
  const { value, view } = valueOf(TAG_MULTIXACT_OFFSETS, 4 + 8 * entries.length);
  entries.forEach(({ multi, offset }, i) => {
    view.setUint32(4 + 8 * i, multi, true);
    view.setUint32(8 + 8 * i, offset, true);
  });
  return value;
}

/** Writes members with consecutive numbers, from `firstOffset` on, all on one pg_multixact/members page. */
export function encodeMultixactMembers(firstOffset: number, members: readonly MultixactMember[]): Uint8Array {
  const { value, view } = valueOf(TAG_MULTIXACT_MEMBERS, 8 + MEMBER_BYTES * members.length);
  view.setUint32(4, firstOffset, true);
  members.forEach(({ xid, status }, i) => {
    view.setUint32(8 + MEMBER_BYTES * i, xid, true);
    view.setUint8(12 + MEMBER_BYTES * i, status);
  });
  return value;
}

/** Sets time and origin of committed xids on one pg_commit_ts page. */
export function encodeCommitTs(xids: readonly number[], timeUs: number, origin: number): Uint8Array {
  const { value, view } = valueOf(TAG_COMMIT_TS, COMMIT_TS_HEADER_BYTES + 4 * xids.length);
  view.setUint16(COMMIT_TS_ORIGIN_AT, origin, true);
  view.setBigInt64(COMMIT_TS_TIME_AT, BigInt(timeUs), true);
  xids.forEach((xid, i) => view.setUint32(COMMIT_TS_HEADER_BYTES + 4 * i, xid, true));
  return value;
}

/** A page of zeros: new SLRU pages, the last page of a free space map that was cut short. */
export function encodeZeroPage(): Uint8Array {
  const { value } = valueOf(TAG_ZERO_PAGE, 2);
  value[1] = FLAG_WILL_INIT;
  return value;
}

/** Applies one such value to the page. Throws StorageError `corrupt`. */
export function redoNeonRecord(page: number, record: SlimRecord): void {
  switch (record.tag) {
    case TAG_VM_CLEAR:
      return clearMapBits(page, record);
    case TAG_VM_TRUNCATE:
      return truncateMap(page, record);
    case TAG_CLOG_SET:
      return setXidStatus(page, record);
    case TAG_MULTIXACT_OFFSETS:
      return setMultixactOffsets(page, record);
    case TAG_MULTIXACT_MEMBERS:
      return setMultixactMembers(page, record);
    case TAG_ZERO_PAGE:
      return clear(page, PAGE_BYTES);
    case TAG_COMMIT_TS:
      return setCommitTime(page, record);
    default:
      throw new StorageError('corrupt', `value with unknown tag ${record.tag}`);
  }
}

/** A map page that was never set up has no bits to clear. */
function clearMapBits(page: number, record: SlimRecord): void {
  record.needMain(4);
  const bits = peek8(record.mainAt + 2) & VM_VALID_BITS;
  const count = peek8(record.mainAt + 3);
  record.needMain(4 + 4 * count);
  if (isNewPage(page)) return;
  for (let i = 0; i < count; i++) {
    const inPage = peek32(record.mainAt + 4 + 4 * i) % VM_HEAP_BLOCKS_PER_PAGE;
    const at = page + PAGE_HEADER_BYTES + (inPage >>> 2);
    memory[at] = memory[at]! & ~(bits << ((inPage & 3) * 2));
  }
}

function truncateMap(page: number, record: SlimRecord): void {
  record.needMain(8);
  if (isNewPage(page)) return;
  const inPage = peek32(record.mainAt + 4) % VM_HEAP_BLOCKS_PER_PAGE;
  const at = page + PAGE_HEADER_BYTES + (inPage >>> 2);
  memory[at] = memory[at]! & ((1 << ((inPage & 3) * 2)) - 1);
  clear(at + 1, page + PAGE_BYTES - (at + 1));
}

/** Two bits an xid. */
function setXidStatus(page: number, record: SlimRecord): void {
  record.needMain(CLOG_HEADER_BYTES);
  const status = peek8(record.mainAt + 2);
  const end = record.mainAt + record.mainBytes;
  for (let at = record.mainAt + CLOG_HEADER_BYTES; at + 4 <= end; at += 4) {
    const xid = peek32(at);
    const byte = page + clogByte(xid);
    const shift = clogShift(xid);
    memory[byte] = (memory[byte]! & ~(3 << shift)) | (status << shift);
  }
}

function setMultixactOffsets(page: number, record: SlimRecord): void {
  const end = record.mainAt + record.mainBytes;
  for (let at = record.mainAt + 4; at + 8 <= end; at += 8) {
    store32(page + multiOffsetByte(peek32(at)), peek32(at + 4));
  }
}

function setMultixactMembers(page: number, record: SlimRecord): void {
  record.needMain(8);
  const count = Math.floor((record.mainBytes - 8) / MEMBER_BYTES);
  const first = peek32(record.mainAt + 4);
  if ((first % MULTIXACT_MEMBERS_PER_PAGE) + count > MULTIXACT_MEMBERS_PER_PAGE) {
    throw new StorageError('corrupt', `${count} multixact members from ${first} on do not lie on one page`);
  }
  for (let i = 0; i < count; i++) {
    const from = record.mainAt + 8 + MEMBER_BYTES * i;
    store32(page + multiMemberXidByte(first + i), peek32(from));
    memory[page + multiMemberFlagByte(first + i)] = peek8(from + 4);
  }
}

/** i64 time and u16 origin, ten bytes an xid. */
function setCommitTime(page: number, record: SlimRecord): void {
  record.needMain(COMMIT_TS_HEADER_BYTES);
  const from = record.mainAt;
  const end = from + record.mainBytes;
  for (let at = from + COMMIT_TS_HEADER_BYTES; at + 4 <= end; at += 4) {
    const entry = page + commitTsByte(peek32(at));
    memory.copyWithin(entry, from + COMMIT_TS_TIME_AT, from + COMMIT_TS_TIME_AT + 8);
    memory.copyWithin(entry + 8, from + COMMIT_TS_ORIGIN_AT, from + COMMIT_TS_ORIGIN_AT + COMMIT_TS_ENTRY_BYTES - 8);
  }
}
