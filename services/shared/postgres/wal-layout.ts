/**
 * How WAL bytes lie in pages and segments (PostgreSQL 15, little endian). Owns page headers, record-header offsets, positions
 * and segment names.
 *
 *   page header, 24 bytes            long form, 40 bytes (first page of a segment)
 *   0  u16 magic 0xD110               24 u64 system identifier
 *   2  u16 info (XLP_*)               32 u32 segment size
 *   4  u32 timeline                   36 u32 page size 8192
 *   8  u64 LSN of this page
 *   16 u32 bytes left of a record that began on an earlier page
 *   20 pad
 *
 *   record header, 24 bytes, at a multiple of 8; the header itself may be split over two pages
 *   0  u32 total length   4 u32 xid   8 u64 LSN of the previous record   16 u8 info   17 u8 resource manager
 *   18 pad   20 u32 CRC-32C of [24, total) then [0, 20)
 */
import { StorageError } from '../core/errors.js';
import type { Lsn } from '../core/lsn.js';

export const XLOG_BLCKSZ = 8192;
export const XLOG_PAGE_MAGIC_15 = 0xd110;
export const SHORT_PAGE_HEADER_BYTES = 24;
export const LONG_PAGE_HEADER_BYTES = 40;
export const RECORD_HEADER_BYTES = 24;
/** Larger records are taken for damage: the server cannot write them either (1 GiB allocations). */
export const RECORD_BYTES_MAX = 1020 * 1024 * 1024;
export const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024;

export const XLP_FIRST_IS_CONTRECORD = 0x0001;
export const XLP_LONG_HEADER = 0x0002;
export const XLP_BKP_REMOVABLE = 0x0004;
export const XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008;
export const XLP_ALL_FLAGS = 0x000f;

const HALF = 0x1_0000_0000;
const SEGMENT_BYTES_MIN = 1024 * 1024;
const SEGMENT_BYTES_MAX = 1024 * 1024 * 1024;

export interface WalPageHeader {
  readonly pageLsn: Lsn;
  /** XLP_* bits; the long-header bit is set by writePageHeader itself. */
  readonly info: number;
  readonly timelineId: number;
  readonly remainingBytes: number;
  readonly systemId: bigint;
  readonly segSize: number;
}

/** Power of two from 1 MiB to 1 GiB; else StorageError `invalid`. */
export function checkSegmentSize(segSize: number): void {
  const valid = segSize >= SEGMENT_BYTES_MIN && segSize <= SEGMENT_BYTES_MAX && (segSize & (segSize - 1)) === 0;
  if (!valid)
    throw new StorageError('invalid', `WAL segment size ${segSize} is not a power of two from 1 MiB to 1 GiB`);
}

/** Byte in the page. The low 32 bits of a number are exact under `>>> 0`, whatever its size. */
export function pageOffset(lsn: Lsn): number {
  return (lsn >>> 0) & (XLOG_BLCKSZ - 1);
}

export function segmentOffset(lsn: Lsn, segSize: number): number {
  return (lsn >>> 0) & (segSize - 1);
}

export function pageStart(lsn: Lsn): Lsn {
  return (lsn - pageOffset(lsn)) as Lsn;
}

export function segmentStart(lsn: Lsn, segSize: number): Lsn {
  return (lsn - segmentOffset(lsn, segSize)) as Lsn;
}

/** Of the page that begins at, or contains, `lsn`. */
export function pageHeaderBytes(lsn: Lsn, segSize: number): number {
  return segmentOffset(lsn, segSize) < XLOG_BLCKSZ ? LONG_PAGE_HEADER_BYTES : SHORT_PAGE_HEADER_BYTES;
}

/** Where the header of a record lies whose predecessor ended at `lsn`: behind the page header when `lsn` is a page start. */
export function recordStart(lsn: Lsn, segSize: number): Lsn {
  return pageOffset(lsn) === 0 ? ((lsn + pageHeaderBytes(lsn, segSize)) as Lsn) : lsn;
}

/** The inverse: a position inside or right behind a page header means the page start. */
export function normalizeLsn(lsn: Lsn, segSize: number): Lsn {
  const offset = pageOffset(lsn);
  return offset <= pageHeaderBytes(lsn, segSize) ? ((lsn - offset) as Lsn) : lsn;
}

export function segmentNumber(lsn: Lsn, segSize: number): number {
  return Math.floor(lsn / segSize);
}

/** 24 hex digits: timeline, then the segment number in two parts, as pg_wal files are named. */
export function segmentName(segno: number, segSize: number, tli = 1): string {
  const perHalf = HALF / segSize;
  return hex8(tli) + hex8(Math.floor(segno / perHalf)) + hex8(segno % perHalf);
}

/** Null when it is not the name of a WAL segment file. */
export function parseSegmentName(name: string, segSize: number): { tli: number; segno: number } | null {
  if (!/^[0-9A-F]{24}$/.test(name)) return null;
  const perHalf = HALF / segSize;
  const low = parseInt(name.slice(16), 16);
  const segno = parseInt(name.slice(8, 16), 16) * perHalf + low;
  if (low >= perHalf || !Number.isSafeInteger(segno * segSize)) return null;
  return { tli: parseInt(name.slice(0, 8), 16), segno };
}

/** Writes the header of the page at `header.pageLsn` to out[offset..) and returns its length, 24 or 40. */
export function writePageHeader(out: Uint8Array, offset: number, header: WalPageHeader): number {
  const length = pageHeaderBytes(header.pageLsn, header.segSize);
  const view = new DataView(out.buffer, out.byteOffset + offset, length);
  view.setUint16(0, XLOG_PAGE_MAGIC_15, true);
  view.setUint16(2, header.info | (length === LONG_PAGE_HEADER_BYTES ? XLP_LONG_HEADER : 0), true);
  view.setUint32(4, header.timelineId, true);
  view.setBigUint64(8, BigInt(header.pageLsn), true);
  view.setUint32(16, header.remainingBytes, true);
  view.setUint32(20, 0, true);
  if (length === LONG_PAGE_HEADER_BYTES) {
    view.setBigUint64(24, header.systemId, true);
    view.setUint32(32, header.segSize, true);
    view.setUint32(36, XLOG_BLCKSZ, true);
  }
  return length;
}

/** u64 as a number. What does not fit 53 bits comes out inexact: compare it with a known value, do not trust it alone. */
export function readLsn(view: DataView, offset: number): Lsn {
  return (view.getUint32(offset + 4, true) * HALF + view.getUint32(offset, true)) as Lsn;
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0');
}
