/**
 * Shares of a bound on the memory of the whole process (`--memory-max`, RSS). Shares are what is kept at most; what is garbage until
 * the engine collects it comes on top, and takes the spare ones.
 *
 *   FIXED_BYTES   program, compiled code, heaps, the thread that rewrites layers, holes in the allocator's arena after gigabytes: measured
 *   the rest      in eighths: 1 open in-memory layers, 2 frozen ones, 2 pages, 1 blocks of layer files, 2 spare
 */
import type { RuntimeBounds } from '#shared/runtime/bounded.js';
import type { StorageLimits } from './io/storage-env.js';
import { DEFAULT_LIMITS } from './io/storage-env.js';

const MIB = 1 << 20;
const FIXED_BYTES = 208 * MIB;
/** Less would leave nothing for layers and caches. */
export const MEMORY_MIN_BYTES = 240 * MIB;
/** From here on young objects get the engine's usual space: half as many collections for 36 MiB more. */
const AMPLE_BYTES = 1024 * MIB;
const OPEN_EIGHTHS = 1;
const MEMORY_EIGHTHS = 3;
const PAGE_EIGHTHS = 2;
const BLOCK_EIGHTHS = 1;

export interface MemoryPlan {
  readonly limits: Partial<StorageLimits>;
  readonly runtime: RuntimeBounds;
}

export function planMemory(memoryMaxBytes: number): MemoryPlan {
  const eighth = Math.floor((memoryMaxBytes - FIXED_BYTES) / 8);
  const openBytes = OPEN_EIGHTHS * eighth;
  return {
    limits: {
      memoryLayerBytesMax: Math.min(DEFAULT_LIMITS.memoryLayerBytesMax, openBytes),
      memoryBytesMax: openBytes,
      memoryBytesHard: MEMORY_EIGHTHS * eighth,
      pageCacheBytes: PAGE_EIGHTHS * eighth,
      blockCacheBytes: BLOCK_EIGHTHS * eighth,
    },
    runtime: {
      heapBytes: Math.floor(memoryMaxBytes / 2),
      youngBytes: memoryMaxBytes < AMPLE_BYTES ? 4 * MIB : null,
    },
  };
}
