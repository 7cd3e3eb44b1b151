/**
 * Main data of transaction records (resource manager 1).
 *
 *   commit, abort (also of prepared transactions): i64 time; then, each only when its bit is set,
 *   [info & 0x80] u32 xinfo        [bit 0] u32 database, u32 tablespace       [bit 1] i32 n, n × u32 subxids
 *   [bit 2] i32 n, n × { u32 tablespace, u32 database, u32 relation } to delete
 *   [bit 8] i32 n, n × 12 dropped statistics       [bit 3, commit] i32 n, n × 16 invalidation messages
 *   [bit 4] u32 xid of the prepared transaction    [bit 7] its name, zero-terminated
 *   [bit 5] u64 origin LSN, i64 origin time
 *
 *   prepare: the state file of the prepared transaction without its CRC (twophase.ts)
 *   assignment: u32 top-level xid, i32 n, n × u32 subxids
 */
import { type Lsn } from '../core/lsn.js';
import { MainDataReader } from './main-data-reader.js';
import {
  XLOG_XACT_ABORT,
  XLOG_XACT_ABORT_PREPARED,
  XLOG_XACT_COMMIT,
  XLOG_XACT_COMMIT_PREPARED,
  XLOG_XACT_HAS_INFO,
  XLOG_XACT_OPMASK,
} from './rmgr.js';
import type { WalRecord } from './wal-record.js';

const HAS_DBINFO = 1 << 0;
const HAS_SUBXACTS = 1 << 1;
const HAS_RELATIONS = 1 << 2;
const HAS_INVALIDATIONS = 1 << 3;
const HAS_TWOPHASE = 1 << 4;
const HAS_ORIGIN = 1 << 5;
const HAS_GID = 1 << 7;
const HAS_DROPPED_STATS = 1 << 8;

export interface RelationFile {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
}

export interface XactEnd {
  readonly kind: 'commit' | 'abort';
  /** The transaction that ended: the record's xid, or that of the prepared transaction; 0 when it had none. */
  readonly xid: number;
  /** COMMIT PREPARED or ROLLBACK PREPARED: its state file goes. */
  readonly prepared: boolean;
  readonly timeUs: number;
  readonly xinfo: number;
  readonly subxids: readonly number[];
  /** All forks of them are deleted. */
  readonly droppedRelations: readonly RelationFile[];
  readonly gid: string | null;
  readonly originLsn: Lsn | null;
  readonly originTimeUs: number | null;
}

const NONE: readonly never[] = [];

export function xactOperation(record: WalRecord): number {
  return record.info & XLOG_XACT_OPMASK;
}

export function isXactEnd(operation: number): boolean {
  return (
    operation === XLOG_XACT_COMMIT ||
    operation === XLOG_XACT_ABORT ||
    operation === XLOG_XACT_COMMIT_PREPARED ||
    operation === XLOG_XACT_ABORT_PREPARED
  );
}

/** Of a record for which isXactEnd(xactOperation(record)). Throws `corrupt`. */
export function parseXactEnd(record: WalRecord): XactEnd {
  const operation = xactOperation(record);
  const isCommit = operation === XLOG_XACT_COMMIT || operation === XLOG_XACT_COMMIT_PREPARED;
  const prepared = operation === XLOG_XACT_COMMIT_PREPARED || operation === XLOG_XACT_ABORT_PREPARED;
  const reader = new MainDataReader(record);
  const timeUs = reader.timestampUs();
  const xinfo = record.info & XLOG_XACT_HAS_INFO ? reader.u32() : 0;
  if (xinfo & HAS_DBINFO) reader.take(8);
  const subxids = xinfo & HAS_SUBXACTS ? reader.u32List(reader.count(4)) : NONE;
  const droppedRelations = xinfo & HAS_RELATIONS ? readRelations(reader) : NONE;
  if (xinfo & HAS_DROPPED_STATS) reader.take(reader.count(12) * 12);
  if (isCommit && xinfo & HAS_INVALIDATIONS) reader.take(reader.count(16) * 16);
  const twophaseXid = xinfo & HAS_TWOPHASE ? reader.u32() : 0;
  if (prepared && twophaseXid === 0) throw reader.corrupt('the end of a prepared transaction does not name it');
  const gid = xinfo & HAS_TWOPHASE && xinfo & HAS_GID ? reader.cstring() : null;
  const hasOrigin = (xinfo & HAS_ORIGIN) !== 0;
  const originLsn = hasOrigin ? (reader.u64() as Lsn) : null;
  const originTimeUs = hasOrigin ? reader.timestampUs() : null;
  return {
    kind: isCommit ? 'commit' : 'abort',
    xid: prepared ? twophaseXid : record.xid,
    prepared,
    timeUs,
    xinfo,
    subxids,
    droppedRelations,
    gid,
    originLsn,
    originTimeUs,
  };
}

function readRelations(reader: MainDataReader): RelationFile[] {
  const count = reader.count(12);
  return Array.from({ length: count }, () => ({ spc: reader.u32(), db: reader.u32(), rel: reader.u32() }));
}

/** Of an XLOG_XACT_ASSIGNMENT record. Throws `corrupt`. */
export function parseXactAssignment(record: WalRecord): { topXid: number; subxids: number[] } {
  const reader = new MainDataReader(record);
  const topXid = reader.u32();
  return { topXid, subxids: reader.u32List(reader.count(4)) };
}
