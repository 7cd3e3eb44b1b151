/**
 * Keeps the tracker state of a timeline in the store, exact at every LSN. Most records that change it only raise the next xid; for
 * these the 8 bytes of NEXT_XID_KEY are put instead of the whole state. Invariant: the state at an LSN is the newest TRACKER_KEY
 * with its next xid replaced by the newest NEXT_XID_KEY; both keys exist whenever one does.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, type Lsn } from '#shared/core/lsn.js';
import {
  CheckpointTracker,
  decodeTrackerState,
  encodeTrackerState,
  type TrackerState,
} from '#shared/postgres/checkpoint-tracker.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { decodeNextXid, encodeNextXid, NEXT_XID_KEY, TRACKER_KEY } from '../keyspace.js';
import { type TimelineStore, VALUE_IMAGE } from '../storage/store.js';

export async function readTrackerState(store: TimelineStore, at: Lsn): Promise<TrackerState> {
  const [whole, nextXid] = await Promise.all([store.get(TRACKER_KEY, at), store.get(NEXT_XID_KEY, at)]);
  if (whole === null || nextXid === null) {
    throw new StorageError('corrupt', `the timeline has no checkpoint state at ${formatLsn(at)}`);
  }
  const state = decodeTrackerState(whole);
  return { ...state, checkPoint: { ...state.checkPoint, nextXid: decodeNextXid(nextXid) } };
}

/** At the start of a timeline. */
export function putTrackerState(store: TimelineStore, lsn: Lsn, state: TrackerState): void {
  store.put(TRACKER_KEY, lsn, VALUE_IMAGE, encodeTrackerState(state));
  store.put(NEXT_XID_KEY, lsn, VALUE_IMAGE, encodeNextXid(state.checkPoint.nextXid));
}

export class CheckpointState {
  private readonly store: TimelineStore;
  private readonly tracker: CheckpointTracker;
  private stored: TrackerState;

  constructor(store: TimelineStore, state: TrackerState) {
    this.store = store;
    this.tracker = new CheckpointTracker(state);
    this.stored = state;
  }

  get nextMulti(): number {
    return this.stored.checkPoint.nextMulti;
  }

  /** Its lower 32 bits. */
  get nextXid(): number {
    return Number(BigInt.asUintN(32, this.stored.checkPoint.nextXid));
  }

  get tracksCommitTimes(): boolean {
    return this.stored.params.trackCommitTimestamp;
  }

  /** For every record, after its other effects. */
  ingest(record: WalRecord): void {
    if (!this.tracker.apply(record)) return;
    const state = this.tracker.state;
    if (sameButNextXid(state, this.stored)) {
      const { nextXid } = state.checkPoint;
      if (nextXid === this.stored.checkPoint.nextXid) return;
      this.store.put(NEXT_XID_KEY, record.endLsn, VALUE_IMAGE, encodeNextXid(nextXid));
    } else {
      putTrackerState(this.store, record.endLsn, state);
    }
    this.stored = state;
  }
}

function sameButNextXid(a: TrackerState, b: TrackerState): boolean {
  const x = a.checkPoint;
  const y = b.checkPoint;
  return (
    (a.params === b.params || JSON.stringify(a.params) === JSON.stringify(b.params)) &&
    x.redo === y.redo &&
    x.timelineId === y.timelineId &&
    x.prevTimelineId === y.prevTimelineId &&
    x.fullPageWrites === y.fullPageWrites &&
    x.nextOid === y.nextOid &&
    x.nextMulti === y.nextMulti &&
    x.nextMultiOffset === y.nextMultiOffset &&
    x.oldestXid === y.oldestXid &&
    x.oldestXidDb === y.oldestXidDb &&
    x.oldestMulti === y.oldestMulti &&
    x.oldestMultiDb === y.oldestMultiDb &&
    x.timeS === y.timeS &&
    x.oldestCommitTsXid === y.oldestCommitTsXid &&
    x.newestCommitTsXid === y.newestCommitTsXid &&
    x.oldestActiveXid === y.oldestActiveXid
  );
}
