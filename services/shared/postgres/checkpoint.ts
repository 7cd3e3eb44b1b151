/**
 * The CheckPoint struct: main data of checkpoint records, and part of pg_control. 88 bytes, little endian, PostgreSQL 12–17.
 *
 *   0 u64 redo   8 u32 timeline   12 u32 previous timeline   16 u8 full_page_writes   24 u64 next xid (epoch in the high half)
 *   32 u32 next oid   36 u32 next multixact   40 u32 next multixact offset   44 u32 oldest xid   48 u32 its database
 *   52 u32 oldest multixact   56 u32 its database   64 i64 time (Unix seconds)   72 u32 oldest xid with commit time
 *   76 u32 newest one   80 u32 oldest active xid; 17..23, 60..63 and 84..87 are padding
 */
import { StorageError } from '../core/errors.js';
import { type Lsn } from '../core/lsn.js';

export const CHECKPOINT_BYTES = 88;
const HALF = 0x1_0000_0000;

export interface CheckPoint {
  readonly redo: Lsn;
  readonly timelineId: number;
  readonly prevTimelineId: number;
  readonly fullPageWrites: boolean;
  /** 64 bits: epoch and xid. */
  readonly nextXid: bigint;
  readonly nextOid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
  readonly oldestXid: number;
  readonly oldestXidDb: number;
  readonly oldestMulti: number;
  readonly oldestMultiDb: number;
  readonly timeS: number;
  readonly oldestCommitTsXid: number;
  readonly newestCommitTsXid: number;
  readonly oldestActiveXid: number;
}

export function encodeCheckPoint(c: CheckPoint): Uint8Array {
  const bytes = new Uint8Array(CHECKPOINT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(c.redo), true);
  view.setUint32(8, c.timelineId, true);
  view.setUint32(12, c.prevTimelineId, true);
  view.setUint8(16, c.fullPageWrites ? 1 : 0);
  view.setBigUint64(24, c.nextXid, true);
  view.setUint32(32, c.nextOid, true);
  view.setUint32(36, c.nextMulti, true);
  view.setUint32(40, c.nextMultiOffset, true);
  view.setUint32(44, c.oldestXid, true);
  view.setUint32(48, c.oldestXidDb, true);
  view.setUint32(52, c.oldestMulti, true);
  view.setUint32(56, c.oldestMultiDb, true);
  view.setBigInt64(64, BigInt(c.timeS), true);
  view.setUint32(72, c.oldestCommitTsXid, true);
  view.setUint32(76, c.newestCommitTsXid, true);
  view.setUint32(80, c.oldestActiveXid, true);
  return bytes;
}

/** Throws `corrupt` when the bytes end early or hold an impossible position. */
export function decodeCheckPoint(bytes: Uint8Array, offset = 0): CheckPoint {
  if (bytes.length - offset < CHECKPOINT_BYTES) throw new StorageError('corrupt', 'a checkpoint is cut off');
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, CHECKPOINT_BYTES);
  const redo = view.getUint32(4, true) * HALF + view.getUint32(0, true);
  if (!Number.isSafeInteger(redo)) throw new StorageError('corrupt', 'a checkpoint names an impossible redo position');
  return {
    redo: redo as Lsn,
    timelineId: view.getUint32(8, true),
    prevTimelineId: view.getUint32(12, true),
    fullPageWrites: view.getUint8(16) !== 0,
    nextXid: view.getBigUint64(24, true),
    nextOid: view.getUint32(32, true),
    nextMulti: view.getUint32(36, true),
    nextMultiOffset: view.getUint32(40, true),
    oldestXid: view.getUint32(44, true),
    oldestXidDb: view.getUint32(48, true),
    oldestMulti: view.getUint32(52, true),
    oldestMultiDb: view.getUint32(56, true),
    timeS: Number(view.getBigInt64(64, true)),
    oldestCommitTsXid: view.getUint32(72, true),
    newestCommitTsXid: view.getUint32(76, true),
    oldestActiveXid: view.getUint32(80, true),
  };
}
