/**
 * Bodies of CopyData between a walsender and a standby. All numbers are big-endian; times are microseconds since 2000-01-01.
 *
 *   to the standby     'w' start u64, end of WAL u64, time i64, WAL bytes
 *                      'k' end of WAL u64, time i64, reply wanted u8
 *   from the standby   'r' write u64, flush u64, apply u64, time i64, reply wanted u8
 *                      'h' time i64, xmin u32, xmin's epoch u32, catalog xmin u32, its epoch u32
 */
import { StorageError } from '#shared/core/errors.js';
import { lsnFromWire, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import type { StandbyPositions, StandbyXmin } from './standby-book.js';

const POSTGRES_EPOCH_MS = 946_684_800_000;
const WAL_HEADER_BYTES = 25;
const KEEPALIVE_BYTES = 18;
const STATUS_BYTES = 34;
const FEEDBACK_BYTES = 25;
const WAL = 0x77;
const KEEPALIVE = 0x6b;
const STATUS = 0x72;
const FEEDBACK = 0x68;
const COPY_DATA = 0x64;
const COPY_HEADER_BYTES = 5;

export type StandbyMessage =
  | { readonly kind: 'status'; readonly positions: StandbyPositions; readonly replyWanted: boolean }
  | { readonly kind: 'feedback'; readonly xmin: StandbyXmin };

function postgresTime(nowMs: number): bigint {
  return BigInt(Math.round((nowMs - POSTGRES_EPOCH_MS) * 1000));
}

/** The first `hereBytes` of a message whose body has `bodyBytes`. */
function copyData(hereBytes: number, bodyBytes = hereBytes): Buffer {
  const out = Buffer.allocUnsafe(COPY_HEADER_BYTES + hereBytes);
  out[0] = COPY_DATA;
  out.writeUInt32BE(4 + bodyBytes, 1);
  return out;
}

/** A whole CopyData message up to its WAL bytes, which the caller sends behind it. */
export function walHeader(options: { startLsn: Lsn; endLsn: Lsn; walBytes: number; nowMs: number }): Buffer {
  const out = copyData(WAL_HEADER_BYTES, WAL_HEADER_BYTES + options.walBytes);
  out[5] = WAL;
  out.writeBigUInt64BE(lsnToWire(options.startLsn), 6);
  out.writeBigUInt64BE(lsnToWire(options.endLsn), 14);
  out.writeBigInt64BE(postgresTime(options.nowMs), 22);
  return out;
}

/** A whole CopyData message. */
export function keepalive(endLsn: Lsn, nowMs: number, replyWanted: boolean): Buffer {
  const out = copyData(KEEPALIVE_BYTES);
  out[5] = KEEPALIVE;
  out.writeBigUInt64BE(lsnToWire(endLsn), 6);
  out.writeBigInt64BE(postgresTime(nowMs), 14);
  out[22] = replyWanted ? 1 : 0;
  return out;
}

/** One CopyData body, buffer[start, end). Throws StorageError `invalid` for anything else than the two messages. */
export function parseStandbyMessage(buffer: Buffer, start: number, end: number): StandbyMessage {
  const bytes = end - start;
  const type = bytes > 0 ? buffer[start] : -1;
  if (type === STATUS && bytes === STATUS_BYTES) {
    const at = (offset: number): Lsn => lsnFromWire(buffer.readBigUInt64BE(start + offset));
    const positions = { writeLsn: at(1), flushLsn: at(9), applyLsn: at(17) };
    return { kind: 'status', positions, replyWanted: buffer[start + 33] === 1 };
  }
  if (type === FEEDBACK && bytes === FEEDBACK_BYTES) {
    const fullXid = (offset: number): bigint =>
      (BigInt(buffer.readUInt32BE(start + offset + 4)) << 32n) | BigInt(buffer.readUInt32BE(start + offset));
    // A standby that needs nothing says xid 0 with some epoch.
    const orNone = (xid: bigint): bigint => (BigInt.asUintN(32, xid) === 0n ? 0n : xid);
    return { kind: 'feedback', xmin: { xmin: orNone(fullXid(9)), catalogXmin: orNone(fullXid(17)) } };
  }
  throw new StorageError('invalid', `a standby sent a message of kind ${type} with ${bytes} bytes`);
}
