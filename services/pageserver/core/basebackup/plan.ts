/** The facts and synthesized files of a base backup: where it begins, its checkpoint, pg_control and WAL. */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { CheckPoint } from '#shared/postgres/checkpoint.js';
import { decodeControlFile, shutdownControlFile } from '#shared/postgres/control-file.js';
import { normalizeLsn } from '#shared/postgres/wal-layout.js';
import { standbyStart } from '#shared/postgres/standby-start.js';
import { firstSegments, type SegmentFile, synthesizeCheckpoint } from '#shared/postgres/wal-synthesis.js';
import type { TimelineView } from '../view/timeline-view.js';

/** Every timeline of storage is WAL timeline 1 of its own. */
const WAL_TIMELINE = 1;

export interface BaseBackupOptions {
  /** End of a record, at or below lastRecordLsn. */
  readonly lsn: Lsn;
  /** Start of that record; 0 when it is not known, right after a branch in the middle of history. */
  readonly prevRecordLsn: Lsn;
  /** For a standby: without the slot that keeps WAL for the walproposer. */
  readonly replica: boolean;
  /** The standby will replay what follows lsn from the WAL of a server that may be running. */
  readonly follow?: boolean;
  /** Now, in Unix seconds. */
  readonly timeS: number;
}

export interface BaseBackupPlan extends BaseBackupOptions {
  /** Start of the synthesized checkpoint: lsn, or behind the page header there; elsewhere for one that follows, see standby-start.ts. */
  readonly checkpointLsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly systemId: bigint;
  readonly pgMajor: number;
  readonly segSize: number;
  readonly catalogVersion: number;
  readonly controlFile: Uint8Array;
  readonly segments: readonly SegmentFile[];
}

/**
 * The server that starts from it takes pages without checksums, since pages rebuilt from WAL have none. Throws StorageError
 * `invalid` when lsn is not the end of a record.
 */
export async function planBaseBackup(view: TimelineView, options: BaseBackupOptions): Promise<BaseBackupPlan> {
  const { pgMajor, systemId, segSize } = view.store;
  if (pgMajor !== 15) throw new StorageError('unimplemented', `base backup of PostgreSQL ${pgMajor}`);
  const lsn = normalizeLsn(options.lsn, segSize);
  const [tracker, template] = await Promise.all([view.tracker(lsn), view.controlFile(lsn)]);
  // A cluster that was imported may have been promoted before.
  const before = { ...tracker.checkPoint, timelineId: WAL_TIMELINE, prevTimelineId: WAL_TIMELINE };
  const start = options.follow
    ? await followingStart(view, { ...options, lsn }, before)
    : ownStart(view, { ...options, lsn }, before);
  const { checkPoint, checkpointLsn, segments } = start;
  const control = { checkPointLsn: checkpointLsn, checkPoint, params: tracker.params, checksumVersion: 0 };
  return {
    ...options,
    lsn,
    checkpointLsn,
    checkPoint,
    systemId,
    pgMajor,
    segSize,
    catalogVersion: decodeControlFile(template).catalogVersion,
    controlFile: shutdownControlFile(template, control),
    segments,
  };
}

interface Start {
  readonly checkpointLsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly segments: readonly SegmentFile[];
}

/** For a server whose own WAL begins at lsn: a shutdown checkpoint is the first record. Transactions that ran there have ended. */
function ownStart(view: TimelineView, options: BaseBackupOptions, before: CheckPoint): Start {
  const { systemId, segSize } = view.store;
  const { lsn, prevRecordLsn, timeS } = options;
  const made = synthesizeCheckpoint({ lsn, prevRecordLsn, checkPoint: before, systemId, segSize, timeS });
  const { timelineId } = made.checkPoint;
  return {
    checkpointLsn: made.startLsn,
    checkPoint: made.checkPoint,
    segments: firstSegments({ lsn, bytes: made.bytes, systemId, segSize, timelineId }),
  };
}

/** For a server that replays the WAL of another from lsn on, where transactions run. */
async function followingStart(view: TimelineView, options: BaseBackupOptions, before: CheckPoint): Promise<Start> {
  const { systemId, segSize } = view.store;
  const prepared = (await view.preparedTransactions(options.lsn)).map(({ xid }) => xid);
  const known = before.oldestActiveXid === 0 ? before.oldestXid : before.oldestActiveXid;
  const oldestActiveXid = prepared.reduce((oldest, xid) => (xidPrecedes(xid, oldest) ? xid : oldest), known);
  const { lsn, timeS } = options;
  const { segment, ...start } = standbyStart({ lsn, checkPoint: before, oldestActiveXid, systemId, segSize, timeS });
  return { ...start, segments: [segment] };
}

/** Both normal, modulo 2^32. */
function xidPrecedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}
