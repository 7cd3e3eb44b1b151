/** What pg_control of a cluster says about a timeline that begins where the cluster ended. Pure. */
import { StorageError } from '#shared/core/errors.js';
import { alignLsn, lsn, type Lsn } from '#shared/core/lsn.js';
import { CHECKPOINT_BYTES } from '#shared/postgres/checkpoint.js';
import type { TrackerState } from '#shared/postgres/checkpoint-tracker.js';
import { DB_SHUTDOWNED, decodeControlFile, withSystemId } from '#shared/postgres/control-file.js';
import { pageHeaderBytes, pageOffset, RECORD_HEADER_BYTES, XLOG_BLCKSZ } from '#shared/postgres/wal-layout.js';

/** Header of the short main data: id and length. */
const CHECKPOINT_RECORD_BYTES = RECORD_HEADER_BYTES + 2 + CHECKPOINT_BYTES;

export interface ImportFacts {
  /** End of the shutdown checkpoint record: all imported versions are of this LSN. */
  readonly lsn: Lsn;
  /** Start of that record. */
  readonly prevRecordLsn: Lsn;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly pgMajor: number;
}

export interface ImportPlan extends ImportFacts {
  /** pg_control with the new system identifier. */
  readonly controlFile: Uint8Array;
  readonly tracker: TrackerState;
}

/**
 * `systemId` replaces the cluster's own. A cluster that was promoted goes on here as WAL timeline 1: nothing but WAL itself tells them
 * apart. Throws StorageError: `corrupt` for a damaged file, `unimplemented` for another major version, `precondition` when the cluster was
 * not stopped cleanly.
 */
export function planImport(controlFile: Uint8Array, options: { readonly systemId?: bigint } = {}): ImportPlan {
  const control = decodeControlFile(controlFile);
  if (control.state !== DB_SHUTDOWNED) {
    throw new StorageError('precondition', 'the cluster was not stopped cleanly; start it and stop it with "fast"');
  }
  const systemId = options.systemId ?? control.systemId;
  return {
    lsn: recordEnd(control.checkPointLsn, CHECKPOINT_RECORD_BYTES, control.segSize),
    prevRecordLsn: control.checkPointLsn,
    systemId,
    segSize: control.segSize,
    pgMajor: 15,
    controlFile: withSystemId(controlFile, systemId),
    tracker: { checkPoint: control.checkPoint, params: control.params },
  };
}

/** Where a record of `length` bytes that begins at `startLsn` ends: at a page end, the page boundary itself. */
export function recordEnd(startLsn: Lsn, length: number, segSize: number): Lsn {
  let at = startLsn;
  for (let left = length; ;) {
    const count = Math.min(left, XLOG_BLCKSZ - pageOffset(at));
    at = lsn(at + count);
    left -= count;
    if (left === 0) return alignLsn(at);
    at = lsn(at + pageHeaderBytes(at, segSize));
  }
}
