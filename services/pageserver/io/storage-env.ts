/** What all timelines of a page server share: object store, caches, redo, limits. */
import type { Logger } from 'pino';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { Lsn } from '#shared/core/lsn.js';
import { RELATION_SIZE_RANGE, SLRU_SIZE_RANGE } from '../core/keyspace.js';
import { liveSizesOf } from '../core/storage/live-sizes.js';
import type { LiveSizes } from '../core/storage/live-sizes.js';
import { PageCache } from '../core/storage/page-cache.js';
import type { TimelineStore } from '../core/storage/store.js';
import type { TenantSettings } from '../core/storage/tenant-settings.js';
import { LayerCache } from './layer-cache.js';
import { MemoryBudget } from './memory-budget.js';
import { createLayerThread } from './layer-thread.js';
import type { LayerJobs } from './layer-thread.js';
import type { LayerSizes } from './layer-output.js';

/** core/redo: a new page from a base (null = nothing) and records, oldest first. Throws StorageError `corrupt` or `unimplemented`. */
export type ReconstructPage = (
  base: Uint8Array | null,
  records: readonly { readonly endLsn: Lsn; readonly value: Uint8Array }[],
) => Uint8Array;

/** The sizes of relations and SLRU segments at an LSN; null = every page counts, whatever the sizes say. */
export type ReadLiveSizes = (scan: TimelineStore['scan'], at: Lsn) => Promise<LiveSizes | null>;

export interface StorageLimits extends TenantSettings {
  /** An in-memory layer is frozen when it uses this much memory (or by WAL distance or age: TenantSettings). */
  readonly memoryLayerBytesMax: number;
  /** … or when the open layers of all timelines together use this much and it is the largest. */
  readonly memoryBytesMax: number;
  /** Open and frozen layers of all timelines: ingest waits for flushes above it. */
  readonly memoryBytesHard: number;
  /** Frozen layers not yet in the object store; ingest waits when there are as many. */
  readonly frozenLayersMax: number;
  /** A page whose versions in a layer end in as many records gets an image at flush: bounds what a read must apply. */
  readonly imageAfterRecords: number;
  /** L0 layers merged at a time: bounds the disk space and time of one compaction. */
  readonly compactionLayersMax: number;
  /** Size at which a merged or image layer is closed and the next begun. */
  readonly layerTargetBytes: number;
  /** … or with as many blocks, however small they are when compressed: bounds the index of a layer. */
  readonly layerTargetBlocks: number;
  /** Image layers written in one go: bounds time and disk space; what is left is due at the next. */
  readonly imageJobBytesMax: number;
  /** History below the cutoff of as many bytes (and as many as the images there have) is merged into images at the cutoff. */
  readonly bottomCompactionBytesMin: number;
  /** L0 layers at which ingest waits for merges, unless these fail: each costs every read of a key that is in none of them. */
  readonly level0LayersMax: number;
  /** Local layer files of all timelines together; those used longest ago go. Infinity = no limit. */
  readonly localLayerBytesMax: number;
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
  memoryBytesHard: 4096 * MIB,
  checkpointTimeoutMs: 10 * 60 * 1000,
  frozenLayersMax: 2,
  imageAfterRecords: 64,
  compactionThreshold: 10,
  compactionLayersMax: 20,
  layerTargetBytes: 128 * MIB,
  layerTargetBlocks: 16_384,
  imageJobBytesMax: 1024 * MIB,
  bottomCompactionBytesMin: 256 * MIB,
  level0LayersMax: 30,
  imageCreationThreshold: 3,
  gcHorizonBytes: 64 * MIB,
  pitrIntervalS: 7 * 24 * 3600,
  lsnLeaseLengthS: 600,
  localLayerBytesMax: Infinity,
  retryMinMs: 200,
  retryMaxMs: 10_000,
  pageCacheBytes: 128 * MIB,
  blockCacheBytes: 64 * MIB,
  openFilesMax: 256,
};

export function layerSizes(limits: StorageLimits): LayerSizes {
  return { targetBytes: limits.layerTargetBytes, targetBlocks: limits.layerTargetBlocks };
}

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
  readonly layerJobs: LayerJobs;
  readonly readLiveSizes: ReadLiveSizes;
}

export interface StorageEnvOptions {
  readonly objectStore: ObjectStore;
  readonly workDir: string;
  readonly log: Logger;
  readonly reconstructPage: ReconstructPage;
  readonly limits?: Partial<StorageLimits>;
  /** Default: in a worker thread. */
  readonly layerJobs?: LayerJobs;
  /** Default: the sizes that ingest keeps. */
  readonly readLiveSizes?: ReadLiveSizes;
}

async function readSizes(scan: TimelineStore['scan'], at: Lsn): Promise<LiveSizes> {
  const relations = await scan(RELATION_SIZE_RANGE.start, RELATION_SIZE_RANGE.end, at);
  return liveSizesOf(relations, await scan(SLRU_SIZE_RANGE.start, SLRU_SIZE_RANGE.end, at));
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
    memory: new MemoryBudget(limits),
    layerJobs: options.layerJobs ?? createLayerThread(),
    readLiveSizes: options.readLiveSizes ?? readSizes,
  };
}
