/**
 * The versioned key-value store of one timeline, as ingest, page reads and basebackup see it. Layers, ancestors, object store and
 * caches are behind it.
 *
 * Versions: every value is put at an LSN, the end LSN of the WAL record that caused it. A read at LSN L sees the newest version
 * with lsn <= L. A value is
 *   image      the whole value (a page, or metadata bytes of any length),
 *   record     a slim WAL record (redo/slim-record.ts) that needs the version before it,
 *   init       a slim WAL record that makes the page from nothing,
 *   tombstone  the key does not exist from here on.
 * Keys whose field1 is 0x00 or 0x01 are pages; those with field1 >= 0x60 are metadata: few, small, only image or tombstone, found by
 * scan, inherited from the ancestor like pages.
 */
import type { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Key } from '../key.js';

export const VALUE_IMAGE = 1;
export const VALUE_RECORD = 2;
export const VALUE_INIT = 3;
export const VALUE_TOMBSTONE = 4;
export type ValueKind = typeof VALUE_IMAGE | typeof VALUE_RECORD | typeof VALUE_INIT | typeof VALUE_TOMBSTONE;

export interface ScanEntry {
  readonly key: Key;
  readonly value: Uint8Array;
}

/** Of one page among several: what getPage returns or throws. */
export type PageOutcome = Uint8Array | null | StorageError;

export interface AncestorPoint {
  readonly timelineId: string;
  readonly lsn: Lsn;
}

export interface TimelineStore {
  readonly ttid: TenantTimelineId;
  readonly pgMajor: number;
  readonly systemId: bigint;
  readonly segSize: number;
  /** End of the initdb image of the root timeline. */
  readonly initdbLsn: Lsn;
  readonly ancestor: AncestorPoint | null;
  /** Which part of the tenant is kept: versions of other keys that are put are left out. */
  readonly shard: ShardIdentity;

  /** End of the last record whose versions are all in. Reads above it must wait (`waitLsn`). */
  readonly lastRecordLsn: Lsn;
  /** Start of that record; 0 right after a branch in the middle of history. */
  readonly prevRecordLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;

  /**
   * Adds a version. Synchronous: into the open in-memory layer. `value` is copied: its memory stays the caller's (for a tombstone it
   * is empty). LSNs never decrease from call to call. The version is visible to reads at >= lsn at once, but readers are
   * let in only by `advance`.
   */
  put(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void;

  /** All versions up to `lastRecordLsn` were put: wakes readers; freezes the layer when it is full or old. */
  advance(lastRecordLsn: Lsn, prevRecordLsn: Lsn): void;

  /** Resolves when lastRecordLsn >= lsn; StorageError `unavailable` on time-out, `cancelled` on abort or when the timeline stops. */
  waitLsn(lsn: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void>;

  /** Resolves when ingest may go on: bounds frozen layers that wait for upload. */
  waitForRoom(): Promise<void>;

  /** Newest image at or below `at`; null when absent or deleted. For metadata keys. */
  get(key: Key, at: Lsn): Promise<Uint8Array | null>;

  /** Metadata keys in [start, end) that exist at `at`, in key order. */
  scan(start: Key, end: Key, at: Lsn): Promise<ScanEntry[]>;

  /**
   * The page at `at`, rebuilt from image and records; null when no version exists. 8192 bytes that belong to a cache: copy before
   * changing. Throws what redo throws, naming key and LSN.
   */
  getPage(key: Key, at: Lsn): Promise<Uint8Array | null>;

  /** As getPage for each key, in order, with one plan for all. Rejects only when `signal` is aborted (`cancelled`). */
  getPages(keys: readonly Key[], at: Lsn, signal?: AbortSignal): Promise<PageOutcome[]>;

  /** Flushes everything in memory to layers, uploads them and the index. Returns the new remoteConsistentLsn. */
  checkpoint(): Promise<Lsn>;
}
