/**
 * Makes the WAL that lets an unmodified server start at position L of a history without recovery: one shutdown checkpoint record
 * at L, in a segment file with valid page headers. Owns how records are laid out in pages.
 *
 * L is a normalised record end (wal-layout.ts): at a page start the page header belongs to what is made here. The server's next
 * record follows ours and names it as its predecessor, so bytes before L and the server's stream from L on are one history.
 *
 * What lies before L in its segment is not known here. Its page headers claim it as the rest of a record that began before the
 * segment, so readers that look for the first record of a page or file are led to L.
 */
import { StorageError } from '../core/errors.js';
import { formatLsn, type Lsn } from '../core/lsn.js';
import { type CheckPoint, encodeCheckPoint } from './checkpoint.js';
import { recordCrc } from './crc32c.js';
import { RM_XLOG, XLOG_CHECKPOINT_SHUTDOWN } from './rmgr.js';
import {
  checkSegmentSize,
  normalizeLsn,
  pageHeaderBytes,
  pageOffset,
  pageStart,
  RECORD_HEADER_BYTES,
  recordStart,
  segmentName,
  segmentNumber,
  segmentStart,
  writePageHeader,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
} from './wal-layout.js';

const SHORT_DATA_MAX = 255;
const ID_DATA_SHORT = 255;
const ID_DATA_LONG = 254;

/** What every page header of a history repeats. */
export interface WalIdentity {
  readonly systemId: bigint;
  readonly segSize: number;
  /** 1 unless given. */
  readonly timelineId?: number;
}

/** Bytes for one place in a file. */
export interface FilePiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface SegmentFile {
  /** In pg_wal. */
  readonly name: string;
  /** The file is zeros up to this size but for the pieces. */
  readonly sizeBytes: number;
  readonly pieces: readonly FilePiece[];
}

/** A record without blocks, CRC included, not padded. */
export function encodeRecord(record: {
  readonly rmid: number;
  readonly info: number;
  readonly xid?: number;
  readonly prevLsn: Lsn;
  readonly mainData: Uint8Array;
}): Uint8Array {
  const length = record.mainData.length;
  const short = length <= SHORT_DATA_MAX;
  const dataAt = RECORD_HEADER_BYTES + (short ? 2 : 5);
  const bytes = new Uint8Array(dataAt + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, record.xid ?? 0, true);
  view.setBigUint64(8, BigInt(record.prevLsn), true);
  view.setUint8(16, record.info);
  view.setUint8(17, record.rmid);
  view.setUint8(24, short ? ID_DATA_SHORT : ID_DATA_LONG);
  if (short) view.setUint8(25, length);
  else view.setUint32(25, length, true);
  bytes.set(record.mainData, dataAt);
  view.setUint32(20, recordCrc(bytes, 0, bytes.length), true);
  return bytes;
}

/** WAL bytes from `lsn` to the padded end of the record, with the header of every page that begins among them. */
export function layOutRecord(record: Uint8Array, lsn: Lsn, identity: WalIdentity): { bytes: Uint8Array; endLsn: Lsn } {
  const { segSize } = identity;
  const pagesMax = Math.ceil(record.length / (XLOG_BLCKSZ - 40)) + 1;
  const out = new Uint8Array(record.length + 8 + pagesMax * 40);
  let length = 0;
  let done = 0;
  while (done < record.length) {
    const at = (lsn + length) as Lsn;
    if (pageOffset(at) === 0) {
      const left = done === 0 ? 0 : record.length - done;
      length += writePageHeader(out, length, {
        pageLsn: at,
        info: left > 0 ? XLP_FIRST_IS_CONTRECORD : 0,
        timelineId: identity.timelineId ?? 1,
        remainingBytes: left,
        systemId: identity.systemId,
        segSize,
      });
    }
    const count = Math.min(record.length - done, XLOG_BLCKSZ - pageOffset((lsn + length) as Lsn));
    out.set(record.subarray(done, done + count), length);
    done += count;
    length += count;
  }
  // The record began at a multiple of 8 and pages are whole multiples of it.
  length += -pageOffset((lsn + length) as Lsn) & 7;
  return { bytes: out.slice(0, length), endLsn: (lsn + length) as Lsn };
}

function checkPosition(lsn: Lsn, segSize: number): void {
  checkSegmentSize(segSize);
  if (pageOffset(lsn) % 8 !== 0 || normalizeLsn(lsn, segSize) !== lsn) {
    throw new StorageError('invalid', `${formatLsn(lsn)} is not the end of a WAL record`);
  }
}

/**
 * The shutdown checkpoint at `lsn`. Its counters are those of `checkPoint`; redo, time and the oldest active xid are set here.
 * `prevRecordLsn` is the start of the last record before `lsn`.
 */
export function synthesizeCheckpoint(options: {
  readonly lsn: Lsn;
  readonly prevRecordLsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly timeS: number;
}): { startLsn: Lsn; endLsn: Lsn; bytes: Uint8Array; checkPoint: CheckPoint } {
  const { lsn, systemId, segSize } = options;
  checkPosition(lsn, segSize);
  const startLsn = recordStart(lsn, segSize);
  const timelineId = options.checkPoint.timelineId;
  const checkPoint: CheckPoint = {
    ...options.checkPoint,
    redo: startLsn,
    prevTimelineId: timelineId,
    timeS: options.timeS,
    oldestActiveXid: 0,
  };
  const record = encodeRecord({
    rmid: RM_XLOG,
    info: XLOG_CHECKPOINT_SHUTDOWN,
    prevLsn: options.prevRecordLsn,
    mainData: encodeCheckPoint(checkPoint),
  });
  const { bytes, endLsn } = layOutRecord(record, lsn, { systemId, segSize, timelineId });
  return { startLsn, endLsn, bytes, checkPoint };
}

/**
 * The one or two pg_wal files that hold `bytes` from `lsn` on (from synthesizeCheckpoint): the least that a server starts with.
 * Before `lsn` only the segment's first page and the page of `lsn` have a header.
 */
export function firstSegments(options: WalIdentity & { readonly lsn: Lsn; readonly bytes: Uint8Array }): SegmentFile[] {
  const { lsn, bytes, segSize } = options;
  checkPosition(lsn, segSize);
  const files: SegmentFile[] = [];
  const end = lsn + bytes.length;
  for (let start = segmentStart(lsn, segSize); start < end; start = (start + segSize) as Lsn) {
    const from = Math.max(start, lsn);
    const to = Math.min(start + segSize, end);
    const piece = { offset: from - start, bytes: bytes.subarray(from - lsn, to - lsn) };
    files.push({
      name: segmentName(segmentNumber(start, segSize), segSize, options.timelineId ?? 1),
      sizeBytes: segSize,
      pieces: start < lsn ? [...leadingHeaders(lsn, options, false), piece] : [piece],
    });
  }
  return files;
}

/**
 * Headers of all pages from the segment's start to the page that `lsn` lies in, none when `lsn` is the segment's start: a reader
 * that begins at the segment's first byte comes through to `lsn`. At a page start `lsn` that page's own header is not among them.
 */
export function segmentPrefix(options: WalIdentity & { readonly lsn: Lsn }): FilePiece[] {
  checkPosition(options.lsn, options.segSize);
  return leadingHeaders(options.lsn, options, true);
}

function leadingHeaders(lsn: Lsn, identity: WalIdentity, everyPage: boolean): FilePiece[] {
  const { systemId, segSize, timelineId = 1 } = identity;
  const segment = segmentStart(lsn, segSize);
  const lastPage = pageOffset(lsn) === 0 ? ((lsn - XLOG_BLCKSZ) as Lsn) : pageStart(lsn);
  const pieces: FilePiece[] = [];
  let remainingBytes = 0;
  for (let page = lastPage; page >= segment; page = (page - XLOG_BLCKSZ) as Lsn) {
    const length = pageHeaderBytes(page, segSize);
    remainingBytes += Math.min(lsn - page, XLOG_BLCKSZ) - length;
    if (!everyPage && page !== segment && (page !== lastPage || pageOffset(lsn) === 0)) continue;
    // Between two lone headers nothing can be claimed: a reader would miss the headers in between.
    const known = everyPage || page === lastPage ? remainingBytes : 0;
    const bytes = new Uint8Array(length);
    const info = known > 0 ? XLP_FIRST_IS_CONTRECORD : 0;
    writePageHeader(bytes, 0, { pageLsn: page, info, timelineId, remainingBytes: known, systemId, segSize });
    pieces.push({ offset: page - segment, bytes });
  }
  return pieces.reverse();
}
