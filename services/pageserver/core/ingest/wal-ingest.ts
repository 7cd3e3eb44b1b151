/**
 * Turns the WAL records of one timeline, in order, into versions of pages and metadata. Owns the head state: what exists now and
 * how long it is.
 *
 * Every version is put at the end of its record, so a read at that LSN includes the record. Records of resource managers without
 * effects outside of the blocks they name (all access methods) need no code here. The caller feeds each record once, then lets
 * readers in by store.advance(). After an error this object is no longer usable: part of the record may have been put.
 */
import type { Lsn } from '#shared/core/lsn.js';
import {
  RM_CLOG,
  RM_COMMIT_TS,
  RM_DBASE,
  RM_LOGICALMSG,
  RM_MULTIXACT,
  RM_RELMAP,
  RM_REPLORIGIN,
  RM_SMGR,
  RM_TBLSPC,
  RM_XACT,
  RM_XLOG,
} from '#shared/postgres/rmgr.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import type { RelTag } from '../keyspace.js';
import type { TimelineStore } from '../storage/store.js';
import { CheckpointState, readTrackerState } from './checkpoint-state.js';
import { ingestDatabase, ingestRelationMap, ingestTablespace } from './database-records.js';
import { ingestParameters } from './commit-times.js';
import { type HeadState, type IngestLog, loadHeadState, SILENT } from './head-state.js';
import { ingestBlocks } from './relation-blocks.js';
import { ingestLogicalMessage, ingestOrigin } from './replication-records.js';
import { ingestClog, ingestCommitTs, ingestMultixact } from './slru-records.js';
import { ingestSmgr } from './smgr-records.js';
import { ingestXact } from './xact-records.js';

const SHARD_ZERO_ONLY: ReadonlySet<number> = new Set([RM_MULTIXACT, RM_COMMIT_TS, RM_REPLORIGIN, RM_LOGICALMSG]);

export class WalIngest {
  private readonly head: HeadState;
  private readonly checkpoint: CheckpointState;
  /** Versions of the head state below this are only in the store. */
  private readonly openedLsn: Lsn;
  /** This is a shard other than shard 0. */
  private readonly isPart: boolean;
  recordCount = 0;

  private constructor(head: HeadState, checkpoint: CheckpointState, openedLsn: Lsn) {
    this.head = head;
    this.checkpoint = checkpoint;
    this.openedLsn = openedLsn;
    this.isPart = head.store.shard.number > 0;
  }

  /** Scans the metadata at the store's lastRecordLsn; the first record to ingest is the one behind it. */
  static async open(store: TimelineStore, log: IngestLog = SILENT): Promise<WalIngest> {
    const at = store.lastRecordLsn;
    const [head, tracker] = await Promise.all([loadHeadState(store, at, log), readTrackerState(store, at)]);
    return new WalIngest(head, new CheckpointState(store, tracker), at);
  }

  /**
   * A Promise only for the rare record that must read older pages (CREATE DATABASE by file copy); `record` must stay as it is
   * until it resolves. Throws StorageError `corrupt` for records that cannot be.
   */
  ingest(record: WalRecord): void | Promise<void> {
    this.recordCount++;
    // Their effects are shard 0's (shard-keys.ts).
    if (this.isPart && SHARD_ZERO_ONLY.has(record.rmid)) return this.finish(record);
    switch (record.rmid) {
      case RM_XACT:
        ingestXact(this.head, record, !this.isPart && this.checkpoint.tracksCommitTimes);
        break;
      case RM_SMGR:
        ingestSmgr(this.head, record);
        break;
      case RM_CLOG:
        ingestClog(this.head, record);
        break;
      case RM_DBASE: {
        const copying = ingestDatabase(this.head, record);
        if (copying !== undefined) return copying.then(() => this.finish(record));
        break;
      }
      case RM_TBLSPC:
        ingestTablespace(this.head, record);
        break;
      case RM_MULTIXACT:
        ingestMultixact(this.head, record, this.checkpoint.nextMulti);
        break;
      case RM_XLOG:
        if (!this.isPart) ingestParameters(this.head, record, this.checkpoint);
        break;
      case RM_COMMIT_TS:
        ingestCommitTs(this.head, record);
        break;
      case RM_REPLORIGIN:
        ingestOrigin(this.head, record);
        break;
      case RM_LOGICALMSG: {
        const merging = ingestLogicalMessage(this.head, record);
        if (merging !== undefined) return merging.then(() => this.finish(record));
        break;
      }
      case RM_RELMAP:
        ingestRelationMap(this.head, record);
        break;
    }
    if (record.maxBlockId >= 0) ingestBlocks(this.head, record);
    this.finish(record);
  }

  /** All forks of all relations of the head. */
  get logicalSizeBytes(): number {
    return this.head.relations.logicalSizeBytes;
  }

  /**
   * The size in blocks of a relation fork at `at`, null when there is none; undefined when only the store can tell, because the
   * relation changed after `at`. Lets page reads at the head go without a look-up of the size.
   */
  relationSize(rel: RelTag, at: Lsn): number | null | undefined {
    if (at < this.openedLsn) return undefined;
    const relation = this.head.relations.find(rel.spc, rel.db, rel.rel, rel.fork);
    if (relation === undefined) return null;
    if (at < relation.changedLsn) return undefined;
    return relation.exists ? relation.sizeBlocks : null;
  }

  private finish(record: WalRecord): void {
    this.head.relations.flush(record.endLsn);
    this.head.slrus.flush(record.endLsn);
    if (!this.isPart) this.checkpoint.ingest(record);
  }
}
