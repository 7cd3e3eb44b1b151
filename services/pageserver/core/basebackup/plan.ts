/** The facts and synthesized files of a base backup: where it begins, its checkpoint, pg_control and WAL. */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { CheckPoint } from '#shared/postgres/checkpoint.js';
import { decodeControlFile, shutdownControlFile } from '#shared/postgres/control-file.js';
import { normalizeLsn } from '#shared/postgres/wal-layout.js';
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
  /** Now, in Unix seconds. */
  readonly timeS: number;
}

export interface BaseBackupPlan extends BaseBackupOptions {
  /** Start of the synthesized shutdown checkpoint: lsn, or behind the page header there. */
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
  const checkpoint = synthesizeCheckpoint({
    lsn,
    prevRecordLsn: options.prevRecordLsn,
    // A cluster that was imported may have been promoted before.
    checkPoint: { ...tracker.checkPoint, timelineId: WAL_TIMELINE, prevTimelineId: WAL_TIMELINE },
    systemId,
    segSize,
    timeS: options.timeS,
  });
  const { checkPoint, startLsn: checkpointLsn } = checkpoint;
  const { timelineId } = checkPoint;
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
    segments: firstSegments({ lsn, bytes: checkpoint.bytes, systemId, segSize, timelineId }),
  };
}
