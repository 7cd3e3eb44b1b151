/**
 * Messages inside the COPY BOTH stream between a walsender and its standby (all integers big-endian):
 *
 *   server:  'w' start u64, end of WAL u64, send time i64, WAL bytes        'k' end of WAL u64, send time i64, reply wanted u8
 *   standby: 'r' write u64, flush u64, apply u64, time i64, reply wanted u8
 *            'h' time i64, xmin u32, xmin's epoch u32, catalog xmin u32, its epoch u32
 *
 * Times are microseconds since 2000-01-01.
 */
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { StandbyFeedback } from './messages.js';

const POSTGRES_EPOCH_MS = 946_684_800_000;
const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
const STATUS_UPDATE = 0x72;
const HOT_STANDBY_FEEDBACK = 0x68;
const HOT_STANDBY_FEEDBACK_BYTES = 25;
const XLOG_DATA_HEADER_BYTES = 25;
const KEEPALIVE_BYTES = 18;
const STATUS_UPDATE_BYTES = 34;
const HALF = 0x1_0000_0000;

export type ReplicationMessage =
  /** `bytes` is a view of the chunk that was parsed. */
  | { readonly kind: 'wal'; readonly beginLsn: Lsn; readonly bytes: Uint8Array }
  | { readonly kind: 'keepalive'; readonly endLsn: Lsn; readonly replyWanted: boolean };

function readU64(view: DataView, offset: number): Lsn {
  const value = view.getUint32(offset) * HALF + view.getUint32(offset + 4);
  if (!Number.isSafeInteger(value)) throw new StorageError('corrupt', 'the walsender sent an LSN that is out of range');
  return lsn(value);
}

/** Throws StorageError `corrupt` on anything but a whole message of the two kinds. */
export function parseReplicationMessage(chunk: Uint8Array): ReplicationMessage {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (chunk[0] === XLOG_DATA && chunk.length >= XLOG_DATA_HEADER_BYTES) {
    return { kind: 'wal', beginLsn: readU64(view, 1), bytes: chunk.subarray(XLOG_DATA_HEADER_BYTES) };
  }
  if (chunk[0] === KEEPALIVE && chunk.length === KEEPALIVE_BYTES) {
    return { kind: 'keepalive', endLsn: readU64(view, 1), replyWanted: chunk[17] === 1 };
  }
  throw new StorageError(
    'corrupt',
    `the walsender sent a message of kind ${chunk[0] ?? -1} with ${chunk.length} bytes`,
  );
}

/** What a standby reports. Commits wait for `flushLsn`. */
export interface StandbyStatus {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

export function encodeStatusUpdate(status: StandbyStatus, nowMs: number): Buffer {
  const out = Buffer.alloc(STATUS_UPDATE_BYTES);
  out[0] = STATUS_UPDATE;
  out.writeBigUInt64BE(BigInt(status.writeLsn), 1);
  out.writeBigUInt64BE(BigInt(status.flushLsn), 9);
  out.writeBigUInt64BE(BigInt(status.applyLsn), 17);
  out.writeBigInt64BE(postgresTime(nowMs), 25);
  return out;
}

/** The oldest transactions that must be kept; 0 = none. */
export function encodeHotStandbyFeedback(feedback: StandbyFeedback, nowMs: number): Buffer {
  const out = Buffer.alloc(HOT_STANDBY_FEEDBACK_BYTES);
  out[0] = HOT_STANDBY_FEEDBACK;
  out.writeBigInt64BE(postgresTime(nowMs), 1);
  [feedback.xmin, feedback.catalogXmin].forEach((xid, index) => {
    out.writeUInt32BE(Number(BigInt.asUintN(32, xid)), 9 + index * 8);
    out.writeUInt32BE(Number(xid >> 32n), 13 + index * 8);
  });
  return out;
}

function postgresTime(nowMs: number): bigint {
  return BigInt(Math.round((nowMs - POSTGRES_EPOCH_MS) * 1000));
}
