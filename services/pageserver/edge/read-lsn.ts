/**
 * At which LSN a read is answered. The client names request_lsn ("as of", MAX_LSN = latest) and not_modified_since, its promise that
 * the object did not change in (not_modified_since, request_lsn]. So any position in between gives the same answer; the newest one
 * that is here is taken, and nothing but not_modified_since is ever waited for.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, INVALID_LSN, lsnMin, MAX_LSN } from '#shared/core/lsn.js';
import { belowCutoff } from '../core/storage/gc-plan.js';

/** Throws StorageError `invalid` for a request that no state of the timeline can answer. */
export function checkReadLsn(requestLsn: Lsn, notModifiedSince: Lsn, minReadableLsn: Lsn): void {
  if (requestLsn === INVALID_LSN) throw new StorageError('invalid', 'request LSN 0/0 is not valid');
  if (notModifiedSince > requestLsn) {
    throw new StorageError(
      'invalid',
      `not_modified_since ${formatLsn(notModifiedSince)} is above the request LSN ${formatLsn(requestLsn)}`,
    );
  }
  if (requestLsn !== MAX_LSN && requestLsn < minReadableLsn) {
    throw belowCutoff(requestLsn, minReadableLsn);
  }
}

/** The LSN to read at; valid once lastRecordLsn >= notModifiedSince. */
export function effectiveLsn(requestLsn: Lsn, lastRecordLsn: Lsn): Lsn {
  return lsnMin(requestLsn, lastRecordLsn);
}
