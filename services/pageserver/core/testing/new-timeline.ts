/** For tests: a timeline that begins with no relations, without a server to import from. */
import { lsn, type Lsn } from '#shared/core/lsn.js';
import type { TrackerState } from '#shared/postgres/checkpoint-tracker.js';
import { putTrackerState } from '../ingest/checkpoint-state.js';
import { WalIngest } from '../ingest/wal-ingest.js';
import { databaseKey, GLOBAL_TABLESPACE } from '../keyspace.js';
import { VALUE_IMAGE } from '../storage/store.js';
import { TimelineView } from '../view/timeline-view.js';
import { madeRecord, type MadeRecord } from './made-record.js';
import { MemoryStore } from './memory-store.js';

export const START_LSN = lsn(0x1000000);

export const FIRST_STATE: TrackerState = {
  checkPoint: {
    redo: lsn(0xfffff8),
    timelineId: 1,
    prevTimelineId: 1,
    fullPageWrites: true,
    nextXid: 730n,
    nextOid: 16384,
    nextMulti: 1,
    nextMultiOffset: 0,
    oldestXid: 717,
    oldestXidDb: 1,
    oldestMulti: 1,
    oldestMultiDb: 1,
    timeS: 1_700_000_000,
    oldestCommitTsXid: 0,
    newestCommitTsXid: 0,
    oldestActiveXid: 0,
  },
  params: {
    walLevel: 1,
    walLogHints: false,
    maxConnections: 100,
    maxWorkerProcesses: 8,
    maxWalSenders: 10,
    maxPreparedXacts: 0,
    maxLocksPerXact: 64,
    trackCommitTimestamp: false,
  },
};

export class MadeTimeline {
  readonly store: MemoryStore;
  readonly view: TimelineView;
  readonly warnings: string[] = [];
  private opened: WalIngest;
  private nextLsn = START_LSN + 8;

  private constructor(store: MemoryStore, opened: WalIngest) {
    this.store = store;
    this.opened = opened;
    this.view = new TimelineView(store);
  }

  static async create(): Promise<MadeTimeline> {
    const store = new MemoryStore({ initdbLsn: START_LSN });
    putTrackerState(store, START_LSN, FIRST_STATE);
    store.put(databaseKey({ spc: GLOBAL_TABLESPACE, db: 0 }), START_LSN, VALUE_IMAGE, new Uint8Array(512));
    store.advance(START_LSN, lsn(0));
    const made = new MadeTimeline(store, await WalIngest.open(store));
    await made.reopen();
    return made;
  }

  /** A new timeline that begins with what this one had at `at`. */
  async branch(at: Lsn): Promise<MadeTimeline> {
    const store = new MemoryStore({ ancestor: { store: this.store, lsn: at } });
    const made = new MadeTimeline(store, await WalIngest.open(store));
    made.nextLsn = at + 8;
    return made;
  }

  get ingest(): WalIngest {
    return this.opened;
  }

  /** As after a restart: all that ingest knows comes from the store again. */
  async reopen(): Promise<void> {
    this.opened = await WalIngest.open(this.store, { warn: (_fields, text) => this.warnings.push(text) });
  }

  /** Ingests one record behind the last and returns its end. */
  async write(record: Omit<MadeRecord, 'endLsn'>): Promise<Lsn> {
    const endLsn = lsn(this.nextLsn);
    this.nextLsn += 8;
    await this.opened.ingest(madeRecord({ ...record, endLsn }));
    this.store.advance(endLsn, lsn(endLsn - 8));
    return endLsn;
  }
}
