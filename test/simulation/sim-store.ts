/** The object store of a simulated world: whole segments of committed WAL, as the elected safekeeper uploaded them. */
import { lsn } from '#shared/core/lsn.js';
import { segmentStart } from '#shared/postgres/wal-layout.js';
import type { SimSafekeeper } from './sim-safekeeper.js';
import { LOG_BYTES_MAX, ORIGIN, SEG_SIZE } from './toy-wal.js';

export class SimStore {
  readonly bytes = new Uint8Array(LOG_BYTES_MAX);
  /** It has everything below. */
  end: number = ORIGIN;

  /** Uploads the next segment when this safekeeper has it whole and committed; it then knows. */
  upload(from: SimSafekeeper): void {
    const { state } = from;
    if (state === null || state.control.timelineStartLsn === 0) return;
    const { control } = state;
    const next = segmentStart(lsn(Math.max(control.backupLsn, ORIGIN) + SEG_SIZE), SEG_SIZE);
    if (next > control.commitLsn || from.disk.removedBelow > control.backupLsn) return;
    this.bytes.set(from.disk.bytes.subarray(control.backupLsn, next), control.backupLsn);
    this.end = Math.max(this.end, next);
    from.take({ kind: 'backup', backupLsn: next }, null);
  }
}
