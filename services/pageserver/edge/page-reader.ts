/** What the libpq edge reads from: one timeline. The real one is tenant/timeline-reader.ts. */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatRel, type RelTag } from '../core/keyspace.js';

export interface PageAddress extends RelTag {
  readonly block: number;
}

/** Positions: every read is of the state as of and including records that end at or below `at`, which must be <= lastRecordLsn. */
export interface PageReader {
  readonly lastRecordLsn: Lsn;
  /** Oldest LSN that can be read. */
  readonly minReadableLsn: Lsn;
  /** Resolves when lastRecordLsn >= lsn. StorageError `unavailable` on time-out, `cancelled` on abort or when the timeline stops. */
  waitLsn(lsn: Lsn, timeoutMs: number, signal: AbortSignal): Promise<void>;
  /**
   * The page when no waiting is needed, else undefined. Beyond the relation's size a zero page. 8192 bytes that may be a
   * cache's: nobody ever changes them. Throws as `page` does.
   */
  tryPage(rel: RelTag, block: number, at: Lsn): Uint8Array | undefined;
  /** As tryPage. StorageError `not-found` ("relation not found: …") for a main or init fork that does not exist. */
  page(rel: RelTag, block: number, at: Lsn): Promise<Uint8Array>;
  /** As `page` for each, in order, with one plan for all. Rejects only when `signal` is aborted. */
  pages(wanted: readonly PageAddress[], at: Lsn, signal: AbortSignal): Promise<Array<Uint8Array | StorageError>>;
  /** Blocks; null when the fork does not exist. */
  relSize(rel: RelTag, at: Lsn): Promise<number | null>;
  /** Bytes of a database's relations in the default tablespace. */
  dbSize(dbOid: number, at: Lsn): Promise<number>;
  /** Whole pages of a segment; null when it does not exist. kind: 0 clog, 1 multixact members, 2 multixact offsets. */
  slruSegment(kind: number, segmentNumber: number, at: Lsn): Promise<Uint8Array | null>;
}

/** The compute's extension looks for the beginning of this text. */
export function relationNotFound(rel: RelTag): StorageError {
  return new StorageError('not-found', `relation not found: ${formatRel(rel)}`);
}
