/**
 * Follows WAL and keeps what a shutdown checkpoint written "as of here" must say, plus the server parameters. Its rules are those
 * of the server's own crash recovery; a next xid that is too low hides committed rows, so everything that mentions an xid counts.
 *
 * The state is serialised as 1 version byte, 7 zeros, the CheckPoint (88 bytes), i32 wal_level, max_connections,
 * max_worker_processes, max_wal_senders, max_prepared_transactions, max_locks_per_transaction, u8 wal_log_hints,
 * u8 track_commit_timestamp, 6 zeros: 128 bytes, little endian.
 */
import { StorageError } from '../core/errors.js';
import { type CheckPoint, CHECKPOINT_BYTES, decodeCheckPoint, encodeCheckPoint } from './checkpoint.js';
import type { ServerParameters } from './control-file.js';
import { MainDataReader } from './main-data-reader.js';
import * as rmgr from './rmgr.js';
import { FIRST_NORMAL_XID, multiFollows, xidFollows } from './slru.js';
import { parsePrepare } from './twophase.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from './wal-record.js';
import { isXactEnd, parseXactAssignment, parseXactEnd, xactOperation } from './xact-record.js';

export interface TrackerState {
  /**
   * redo and timeS are those of the last real checkpoint: whoever writes a checkpoint sets them. oldestActiveXid: no transaction below it
   * runs, but perhaps prepared ones; 0 = not known.
   */
  readonly checkPoint: CheckPoint;
  readonly params: ServerParameters;
}

const HALF = 0x1_0000_0000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class CheckpointTracker {
  private readonly checkPoint: Mutable<CheckPoint>;
  private params: ServerParameters;
  /** checkPoint.nextXid in two halves: apply() runs for every record. */
  private nextXid: number;
  private epoch: number;
  private changed = false;

  constructor(state: TrackerState) {
    this.checkPoint = { ...state.checkPoint };
    this.params = { ...state.params };
    this.nextXid = Number(BigInt.asUintN(32, state.checkPoint.nextXid));
    this.epoch = Number(state.checkPoint.nextXid >> 32n);
  }

  /** A copy. */
  get state(): TrackerState {
    const nextXid = (BigInt(this.epoch) << 32n) | BigInt(this.nextXid);
    return { checkPoint: { ...this.checkPoint, nextXid }, params: this.params };
  }

  /** Takes the next record in. True when the state differs from before. Throws `corrupt` when the record is malformed. */
  apply(record: WalRecord): boolean {
    this.changed = false;
    this.sawXid(record.xid);
    switch (record.rmid) {
      case rmgr.RM_XLOG:
        this.applyXlog(record);
        break;
      case rmgr.RM_XACT:
        this.applyXact(record);
        break;
      case rmgr.RM_MULTIXACT:
        this.applyMultiXact(record);
        break;
      case rmgr.RM_STANDBY:
        this.applyStandby(record);
        break;
      case rmgr.RM_COMMIT_TS:
        this.applyCommitTs(record);
        break;
    }
    return this.changed;
  }

  /** The next xid is past every one seen. The epoch rises when the 32 bits wrap. */
  private sawXid(xid: number): void {
    if (xid < FIRST_NORMAL_XID || ((xid - this.nextXid) | 0) < 0) return;
    const next = xid === HALF - 1 ? FIRST_NORMAL_XID : xid + 1;
    if (next < this.nextXid) this.epoch += 1;
    this.nextXid = next;
    this.changed = true;
  }

  private set<K extends keyof CheckPoint>(key: K, value: CheckPoint[K]): void {
    if (this.checkPoint[key] === value) return;
    (this.checkPoint as CheckPoint & Record<K, CheckPoint[K]>)[key] = value;
    this.changed = true;
  }

  private setNextXid(full: bigint): void {
    this.nextXid = Number(BigInt.asUintN(32, full));
    this.epoch = Number(full >> 32n);
    this.changed = true;
  }

  private raiseMulti(next: number, offset: number): void {
    if (multiFollows(next, this.checkPoint.nextMulti)) this.set('nextMulti', next);
    if (multiFollows(offset, this.checkPoint.nextMultiOffset)) this.set('nextMultiOffset', offset);
  }

  private raiseOldestMulti(multi: number, database: number): void {
    if (!multiFollows(multi, this.checkPoint.oldestMulti)) return;
    this.set('oldestMulti', multi);
    this.set('oldestMultiDb', database);
  }

  private applyXlog(record: WalRecord): void {
    switch (record.info & XLR_RMGR_INFO_MASK) {
      case rmgr.XLOG_CHECKPOINT_SHUTDOWN:
        this.applyShutdown(this.readCheckPoint(record));
        break;
      case rmgr.XLOG_CHECKPOINT_ONLINE:
        this.applyOnline(this.readCheckPoint(record));
        break;
      case rmgr.XLOG_NEXTOID:
        this.set('nextOid', new MainDataReader(record).u32());
        break;
      case rmgr.XLOG_FPW_CHANGE:
        this.set('fullPageWrites', new MainDataReader(record).u8() !== 0);
        break;
      case rmgr.XLOG_PARAMETER_CHANGE:
        this.applyParameters(new MainDataReader(record));
        break;
      case rmgr.XLOG_END_OF_RECOVERY: {
        const reader = new MainDataReader(record);
        reader.timestampUs();
        this.set('timelineId', reader.u32());
        this.set('prevTimelineId', reader.u32());
        break;
      }
    }
  }

  private readCheckPoint(record: WalRecord): CheckPoint {
    const at = new MainDataReader(record).take(CHECKPOINT_BYTES);
    return decodeCheckPoint(record.bytes, at);
  }

  /** Nothing runs at a shutdown checkpoint: its counters are exact, also where they are lower. */
  private applyShutdown(seen: CheckPoint): void {
    this.setNextXid(seen.nextXid);
    this.set('nextOid', seen.nextOid);
    this.set('nextMulti', seen.nextMulti);
    this.set('nextMultiOffset', seen.nextMultiOffset);
    this.set('oldestXid', seen.oldestXid);
    this.set('oldestXidDb', seen.oldestXidDb);
    this.set('oldestCommitTsXid', seen.oldestCommitTsXid);
    this.set('newestCommitTsXid', seen.newestCommitTsXid);
    this.applyCommon(seen);
    this.set('oldestActiveXid', Number(BigInt.asUintN(32, seen.nextXid)));
  }

  /** Its counters were read while others moved on, so they only raise ours. Its next oid is not to be trusted at all. */
  private applyOnline(seen: CheckPoint): void {
    const next = (BigInt(this.epoch) << 32n) | BigInt(this.nextXid);
    if (seen.nextXid > next) this.setNextXid(seen.nextXid);
    this.raiseMulti(seen.nextMulti, seen.nextMultiOffset);
    if (xidFollows(seen.oldestXid, this.checkPoint.oldestXid)) {
      this.set('oldestXid', seen.oldestXid);
      this.set('oldestXidDb', seen.oldestXidDb);
    }
    this.applyCommon(seen);
    this.set('oldestActiveXid', seen.oldestActiveXid);
  }

  private applyCommon(seen: CheckPoint): void {
    this.raiseOldestMulti(seen.oldestMulti, seen.oldestMultiDb);
    this.set('redo', seen.redo);
    this.set('timeS', seen.timeS);
    this.set('fullPageWrites', seen.fullPageWrites);
    this.set('timelineId', seen.timelineId);
    this.set('prevTimelineId', seen.prevTimelineId);
  }

  private applyParameters(reader: MainDataReader): void {
    const before = this.params.trackCommitTimestamp;
    this.params = {
      maxConnections: reader.i32(),
      maxWorkerProcesses: reader.i32(),
      maxWalSenders: reader.i32(),
      maxPreparedXacts: reader.i32(),
      maxLocksPerXact: reader.i32(),
      walLevel: reader.i32(),
      walLogHints: reader.u8() !== 0,
      trackCommitTimestamp: reader.u8() !== 0,
    };
    this.changed = true;
    const now = this.params.trackCommitTimestamp;
    if (now && !before && this.checkPoint.oldestCommitTsXid === 0) {
      this.set('oldestCommitTsXid', this.nextXid);
      this.set('newestCommitTsXid', this.nextXid);
    } else if (!now) {
      this.set('oldestCommitTsXid', 0);
      this.set('newestCommitTsXid', 0);
    }
  }

  private applyXact(record: WalRecord): void {
    const operation = xactOperation(record);
    if (isXactEnd(operation)) {
      // Most commits have neither subtransactions nor anything else of interest: they cost no object here.
      const simple = (record.info & rmgr.XLOG_XACT_HAS_INFO) === 0;
      if (simple && !this.params.trackCommitTimestamp) return;
      const end = parseXactEnd(record);
      this.sawXid(end.xid);
      for (const xid of end.subxids) this.sawXid(xid);
      if (end.kind === 'commit') this.committed(end.xid, end.subxids);
    } else if (operation === rmgr.XLOG_XACT_PREPARE) {
      const state = parsePrepare(record);
      this.sawXid(state.xid);
      for (const xid of state.subxids) this.sawXid(xid);
    } else if (operation === rmgr.XLOG_XACT_ASSIGNMENT) {
      const { topXid, subxids } = parseXactAssignment(record);
      this.sawXid(topXid);
      for (const xid of subxids) this.sawXid(xid);
    }
  }

  private committed(xid: number, subxids: readonly number[]): void {
    if (!this.params.trackCommitTimestamp) return;
    const newest = subxids.at(-1) ?? xid;
    if (newest < FIRST_NORMAL_XID) return;
    if (xidFollows(newest, this.checkPoint.newestCommitTsXid)) this.set('newestCommitTsXid', newest);
  }

  private applyMultiXact(record: WalRecord): void {
    const reader = new MainDataReader(record);
    const operation = record.info & XLR_RMGR_INFO_MASK;
    if (operation === rmgr.XLOG_MULTIXACT_CREATE_ID) {
      const multi = reader.u32();
      const offset = reader.u32();
      const count = reader.count(8);
      // Multixact 0 is none: after the highest comes 1.
      this.raiseMulti(multi === HALF - 1 ? 1 : multi + 1, (offset + count) >>> 0);
      for (let member = 0; member < count; member++) {
        this.sawXid(reader.u32());
        reader.take(4);
      }
    } else if (operation === rmgr.XLOG_MULTIXACT_TRUNCATE_ID) {
      const database = reader.u32();
      reader.take(4);
      this.raiseOldestMulti(reader.u32(), database);
    }
  }

  private applyStandby(record: WalRecord): void {
    if ((record.info & XLR_RMGR_INFO_MASK) !== rmgr.XLOG_RUNNING_XACTS) return;
    const reader = new MainDataReader(record);
    reader.take(12);
    const next = reader.u32();
    this.sawXid(next <= FIRST_NORMAL_XID ? HALF - 1 : next - 1);
    this.set('oldestActiveXid', reader.u32());
  }

  private applyCommitTs(record: WalRecord): void {
    if ((record.info & XLR_RMGR_INFO_MASK) !== rmgr.COMMIT_TS_TRUNCATE) return;
    const reader = new MainDataReader(record);
    reader.take(4);
    const oldest = reader.u32();
    const known = this.checkPoint.oldestCommitTsXid;
    if (known !== 0 && xidFollows(oldest, known)) this.set('oldestCommitTsXid', oldest);
  }
}

const STATE_VERSION = 1;
const CHECKPOINT_AT = 8;
const PARAMS_AT = CHECKPOINT_AT + CHECKPOINT_BYTES;
const STATE_BYTES = 128;

export function encodeTrackerState(state: TrackerState): Uint8Array {
  const bytes = new Uint8Array(STATE_BYTES);
  const view = new DataView(bytes.buffer);
  const { params } = state;
  bytes[0] = STATE_VERSION;
  bytes.set(encodeCheckPoint(state.checkPoint), CHECKPOINT_AT);
  view.setInt32(PARAMS_AT, params.walLevel, true);
  view.setInt32(PARAMS_AT + 4, params.maxConnections, true);
  view.setInt32(PARAMS_AT + 8, params.maxWorkerProcesses, true);
  view.setInt32(PARAMS_AT + 12, params.maxWalSenders, true);
  view.setInt32(PARAMS_AT + 16, params.maxPreparedXacts, true);
  view.setInt32(PARAMS_AT + 20, params.maxLocksPerXact, true);
  view.setUint8(PARAMS_AT + 24, params.walLogHints ? 1 : 0);
  view.setUint8(PARAMS_AT + 25, params.trackCommitTimestamp ? 1 : 0);
  return bytes;
}

/** Throws `corrupt` for other lengths and versions. */
export function decodeTrackerState(bytes: Uint8Array): TrackerState {
  if (bytes.length !== STATE_BYTES || bytes[0] !== STATE_VERSION) {
    throw new StorageError('corrupt', `a tracker state of ${bytes.length} bytes, version ${bytes[0]}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATE_BYTES);
  return {
    checkPoint: decodeCheckPoint(bytes, CHECKPOINT_AT),
    params: {
      walLevel: view.getInt32(PARAMS_AT, true),
      maxConnections: view.getInt32(PARAMS_AT + 4, true),
      maxWorkerProcesses: view.getInt32(PARAMS_AT + 8, true),
      maxWalSenders: view.getInt32(PARAMS_AT + 12, true),
      maxPreparedXacts: view.getInt32(PARAMS_AT + 16, true),
      maxLocksPerXact: view.getInt32(PARAMS_AT + 20, true),
      walLogHints: view.getUint8(PARAMS_AT + 24) !== 0,
      trackCommitTimestamp: view.getUint8(PARAMS_AT + 25) !== 0,
    },
  };
}
