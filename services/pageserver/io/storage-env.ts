/** What all timelines of a page server share: object store, caches, redo, limits. */
import type { Logger } from 'pino';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { Lsn } from '#shared/core/lsn.js';
import { PageCache } from '../core/storage/page-cache.js';
import { LayerCache } from './layer-cache.js';
import { MemoryBudget } from './memory-budget.js';
import { createMergeThread } from './merge-thread.js';
import type { MergeLayers } from './merge-thread.js';

/** core/redo: a new page from a base (null = nothing) and records, oldest first. Throws StorageError `corrupt` or `unimplemented`. */
export type ReconstructPage = (
  base: Uint8Array | null,
  records: readonly { readonly endLsn: Lsn; readonly value: Uint8Array }[],
) => Uint8Array;

export interface StorageLimits {
  /** An in-memory layer is frozen after this much WAL: bounds what must be streamed again after a crash. */
  readonly checkpointDistanceBytes: number;
  /** … or when it uses this much memory. */
  readonly memoryLayerBytesMax: number;
  /** … or when the open layers of all timelines together use this much and it is the largest. */
  readonly memoryBytesMax: number;
  /** … or when it is this old: lets safekeepers drop WAL of a timeline that writes little. */
  readonly checkpointTimeoutMs: number;
  /** Frozen layers not yet in the object store; ingest waits when there are as many. */
  readonly frozenLayersMax: number;
  /** A page whose versions in a layer end in as many records gets an image at flush: bounds what a read must apply. */
  readonly imageAfterRecords: number;
  /** Number of L0 layers that starts a compaction: every read of a key that is nowhere in them asks all their filters. */
  readonly compactionThreshold: number;
  /** L0 layers merged at a time: bounds the disk space and time of one compaction. */
  readonly compactionLayersMax: number;
  /** Size at which a merged layer is closed and the next begun. */
  readonly layerTargetBytes: number;
  /** Pauses between failed uploads: doubled from the first to the last. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  readonly pageCacheBytes: number;
  readonly blockCacheBytes: number;
  /** Layer files kept open. */
  readonly openFilesMax: number;
}

const MIB = 1 << 20;

export const DEFAULT_LIMITS: StorageLimits = {
  checkpointDistanceBytes: 256 * MIB,
  memoryLayerBytesMax: 128 * MIB,
  memoryBytesMax: 1024 * MIB,
  checkpointTimeoutMs: 10 * 60 * 1000,
  frozenLayersMax: 2,
  imageAfterRecords: 64,
  compactionThreshold: 10,
  compactionLayersMax: 20,
  layerTargetBytes: 128 * MIB,
  retryMinMs: 200,
  retryMaxMs: 10_000,
  pageCacheBytes: 128 * MIB,
  blockCacheBytes: 64 * MIB,
  openFilesMax: 256,
};

export interface StorageEnv {
  readonly objectStore: ObjectStore;
  /** Local cache: `<workDir>/tenants/<tenant>/timelines/<timeline>/`. */
  readonly workDir: string;
  readonly log: Logger;
  readonly limits: StorageLimits;
  readonly reconstructPage: ReconstructPage;
  readonly layers: LayerCache;
  readonly pages: PageCache;
  readonly memory: MemoryBudget;
  readonly mergeLayers: MergeLayers;
}

export interface StorageEnvOptions {
  readonly objectStore: ObjectStore;
  readonly workDir: string;
  readonly log: Logger;
  readonly reconstructPage: ReconstructPage;
  readonly limits?: Partial<StorageLimits>;
  /** Default: in a worker thread. */
  readonly mergeLayers?: MergeLayers;
}

/** One a process; `env.layers.close()` at the end gives the files back. */
export function createStorageEnv(options: StorageEnvOptions): StorageEnv {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  return {
    objectStore: options.objectStore,
    workDir: options.workDir,
    log: options.log,
    limits,
    reconstructPage: options.reconstructPage,
    layers: new LayerCache(options.objectStore, limits),
    pages: new PageCache(limits.pageCacheBytes),
    memory: new MemoryBudget(limits.memoryBytesMax),
    mergeLayers: options.mergeLayers ?? createMergeThread(),
  };
}
