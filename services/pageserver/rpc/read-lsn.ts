/** Request fields that several methods share. */
import type { ReadLsn, RelTag as WireRelTag } from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsnFromWire, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { RelTag } from '../core/keyspace.js';
import { FORK_COUNT } from '../core/keyspace.js';
import { checkReadLsn, effectiveLsn } from '../edge/read-lsn.js';
import type { TimelineReader } from '../tenant/timeline-reader.js';

/**
 * The LSN to read at, after waiting for what the client may rely on. Absent or 0 = latest. On this service a request without
 * not_modified_since waits for its request_lsn.
 */
export async function waitReadLsn(
  reader: TimelineReader,
  readLsn: ReadLsn | undefined,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Lsn> {
  const asked = lsnFromWire(readLsn?.requestLsn ?? 0n);
  const requestLsn = asked === INVALID_LSN ? MAX_LSN : asked;
  const given = lsnFromWire(readLsn?.notModifiedSinceLsn ?? 0n);
  const notModifiedSince = given === INVALID_LSN && requestLsn !== MAX_LSN ? requestLsn : given;
  checkReadLsn(requestLsn, notModifiedSince, reader.minReadableLsn);
  await reader.waitLsn(notModifiedSince, timeoutMs, signal);
  return effectiveLsn(requestLsn, reader.lastRecordLsn);
}

/** Throws StorageError `invalid` when it is missing or impossible. */
export function relTagFromWire(rel: WireRelTag | undefined): RelTag {
  if (rel === undefined) throw new StorageError('invalid', 'the request names no relation (rel is required)');
  if (rel.relNumber === 0) throw new StorageError('invalid', 'relation number 0 does not exist');
  if (rel.forkNumber >= FORK_COUNT) throw new StorageError('invalid', `there is no fork ${rel.forkNumber}`);
  return { spc: rel.spcOid, db: rel.dbOid, rel: rel.relNumber, fork: rel.forkNumber };
}
