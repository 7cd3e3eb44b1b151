/**
 * Replays the WAL of a base backup over its files, from its start as far as the segments go: what Postgres does at the first start on
 * it. The files are one state from the record on that says so (XLOG_BACKUP_END; of a standby's backup: from its minimum recovery
 * point on); WAL that ends before that is an error, WAL that ends behind it is the end.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, StorageError, wrapError } from '#shared/core/errors.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { ControlFile } from '#shared/postgres/control-file.js';
import { RM_XLOG, XLOG_BACKUP_END } from '#shared/postgres/rmgr.js';
import { parseSegmentName, readLsn, segmentOffset } from '#shared/postgres/wal-layout.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import type { TarEntry } from '../core/basebackup/tar-entry.js';
import type { BackupLabel } from '../core/import/backup-label.js';
import type { IngestLog } from '../core/ingest/head-state.js';
import { WalIngest } from '../core/ingest/wal-ingest.js';
import type { TimelineStore } from '../core/storage/store.js';
import { IngestFailure, WalApplier } from '../walreceiver/wal-applier.js';

export interface BackupWal {
  readonly label: BackupLabel;
  readonly control: ControlFile;
  /** WAL segment files in ascending order; others are passed over. */
  readonly segments: AsyncIterable<TarEntry>;
}

/** Sees the record that makes the backup consistent go by. */
class Consistency {
  isReached = false;
  private readonly label: BackupLabel;
  private readonly control: ControlFile;

  constructor({ label, control }: BackupWal) {
    this.label = label;
    this.control = control;
  }

  see(record: WalRecord): void {
    if (this.isReached) return;
    this.isReached = this.label.isFromStandby
      ? record.endLsn >= this.control.minRecoveryLsn
      : isBackupEnd(record, this.label.startLsn);
  }
}

function isBackupEnd(record: WalRecord, startLsn: Lsn): boolean {
  if (record.rmid !== RM_XLOG || (record.info & XLR_RMGR_INFO_MASK) !== XLOG_BACKUP_END) return false;
  return record.mainDataLength >= 8 && readLsn(record.view, record.mainDataOffset) === startLsn;
}

/** Returns where the WAL ended: the store's last record. The store stands at the backup's start. */
export async function replayBackupWal(store: TimelineStore, wal: BackupWal, log: IngestLog): Promise<Lsn> {
  const { label, control } = wal;
  const consistency = new Consistency(wal);
  const ingest = await WalIngest.open(store, log);
  const sink = {
    ingest: (record: WalRecord) => {
      consistency.see(record);
      return ingest.ingest(record);
    },
  };
  const applier = new WalApplier(store, sink, { records: 0, bytes: 0 }, control);
  let end: unknown = null;
  for await (const entry of wal.segments) {
    if (end !== null) continue;
    end = await replaySegment(applier, entry, wal);
  }
  if (!consistency.isReached) {
    const text = `the WAL from ${formatLsn(label.startLsn)} ends at ${formatLsn(store.lastRecordLsn)}, before the end of the backup`;
    throw new StorageError(
      'precondition',
      `${text}: take it with pg_basebackup -X fetch, or send all of its segments`,
      {
        cause: end,
      },
    );
  }
  return store.lastRecordLsn;
}

/** Null: goes on with the next. Else why the WAL ends here. */
async function replaySegment(applier: WalApplier, entry: TarEntry, { label, control }: BackupWal): Promise<unknown> {
  const { segSize } = control;
  const name = entry.path.slice(entry.path.lastIndexOf('/') + 1);
  const place = parseSegmentName(name, segSize);
  if (place === null || place.tli !== label.walTimeline) return null;
  let at = lsn(place.segno * segSize);
  if (at + segSize <= applier.inputLsn) return null;
  if (entry.sizeBytes !== segSize) {
    throw new StorageError('invalid', `WAL segment ${name} has ${entry.sizeBytes} bytes, not ${segSize}`);
  }
  if (at > applier.inputLsn - segmentOffset(applier.inputLsn, segSize)) {
    return new StorageError('invalid', `the segment with ${formatLsn(applier.inputLsn)} is missing before ${name}`);
  }
  for await (const piece of entry.pieces) {
    const wanted = piece.subarray(Math.max(0, applier.inputLsn - at));
    at = lsn(at + piece.length);
    try {
      if (wanted.length > 0) await applier.apply(applier.inputLsn, wanted);
    } catch (error) {
      if (error instanceof AssertionFailure || error instanceof IngestFailure) throw error;
      // As for the server itself: the first thing that is not a record is the end of WAL.
      if (errorKind(error) === 'corrupt') return error;
      throw wrapError(`could not replay ${name}`, error);
    }
  }
  return null;
}
