/**
 * What the vm-monitor decides: how much memory Postgres may use before more is asked for, whether memory can be given back, and how large the
 * local file cache may be. The protocol and its numbers are those of Neon's vm-monitor, so that its autoscaler-agent works unchanged.
 *
 *   usable    = memory that the agent speaks of - SYS_BUFFER        (of what the system has: all of it)
 *   threshold = 85 % of usable                                      more than that, not reclaimable: more memory is asked for
 *   cache     = min((usable - 256 MiB) / 1.1, 75 % of usable), whole MiB
 */
import { StorageError } from '#shared/core/errors.js';

const MIB = 1 << 20;
/** What the agent grants may not be plugged in yet, and the kernel takes some. */
const SYS_BUFFER_BYTES = 100 * MIB;
const OVERHEAD_FRACTION = 0.15;
/** How much free room must be left when memory is given back. */
const DOWNSCALE_BUFFER_BYTES = 100 * MIB;
const CACHE_FRACTION = 0.75;
const CACHE_REMAINING_BYTES = 256 * MIB;
const CACHE_SPREAD = 0.1;
/** 500 ms of samples are averaged. */
const HISTORY_COUNT = 5;
const UPSCALE_INTERVAL_MS = 1_000;
const SAMPLE_AGE_MS_MAX = 5_000;

export const SAMPLE_INTERVAL_MS = 100;

export interface MonitorOptions {
  /** Memory of the machine or its limit, at the start. */
  readonly totalBytes: number;
  /** Memory statistics of a cgroup come in. */
  readonly hasCgroup: boolean;
  /** The size of the file cache is ours to set. */
  readonly hasFileCache: boolean;
}

export type Decision =
  { readonly ok: true; readonly cacheMib: number | null } | { readonly ok: false; readonly why: string };

export function fileCacheMib(totalBytes: number): number {
  const bytes = Math.min((totalBytes - CACHE_REMAINING_BYTES) / (1 + CACHE_SPREAD), CACHE_FRACTION * totalBytes);
  return Math.max(0, Math.floor(bytes / MIB));
}

function thresholdOf(usableBytes: number): number {
  return Math.floor(usableBytes * (1 - OVERHEAD_FRACTION));
}

export class VmMonitor {
  thresholdBytes: number;
  private readonly options: MonitorOptions;
  private samples: { readonly bytes: number; readonly atMs: number }[] = [];
  private lastUpscaleMs = -Infinity;

  constructor(options: MonitorOptions) {
    this.options = options;
    this.thresholdBytes = thresholdOf(options.totalBytes);
  }

  /** Memory that cannot be reclaimed, as last measured. True: ask for more. */
  sample(bytes: number, atMs: number): boolean {
    this.samples.push({ bytes, atMs });
    if (this.samples.length > HISTORY_COUNT) this.samples.shift();
    if (this.samples.length < HISTORY_COUNT || this.averageBytes < this.thresholdBytes) return false;
    if (atMs - this.lastUpscaleMs < UPSCALE_INTERVAL_MS) return false;
    this.lastUpscaleMs = atMs;
    return true;
  }

  private get averageBytes(): number {
    return this.samples.reduce((sum, { bytes }) => sum + bytes, 0) / Math.max(1, this.samples.length);
  }

  /** Whether memory can shrink to `memoryBytes`. Throws StorageError `unavailable` when the newest measurement is too old to tell. */
  canDownscale(memoryBytes: number, nowMs: number): Decision {
    const { hasCgroup, hasFileCache } = this.options;
    const usable = Math.max(0, memoryBytes - SYS_BUFFER_BYTES);
    const cacheMib = hasFileCache ? fileCacheMib(usable) : null;
    if (!hasCgroup) return { ok: true, cacheMib };
    const newest = this.samples.at(-1);
    if (newest !== undefined && nowMs - newest.atMs > SAMPLE_AGE_MS_MAX) {
      throw new StorageError('unavailable', 'the newest memory statistics are too old');
    }
    if (this.samples.length <= 1) return { ok: false, why: "haven't received enough cgroup memory stats yet" };
    const threshold = thresholdOf(usable);
    const used = this.averageBytes;
    if (threshold < used + DOWNSCALE_BUFFER_BYTES) {
      const [low, usage, buffer] = [threshold, used, DOWNSCALE_BUFFER_BYTES].map(mib);
      const why = `calculated memory threshold too low: ${low} MiB (new threshold) < ${usage} MiB (current usage) + ${buffer} MiB (downscale buffer)`;
      return { ok: false, why };
    }
    return { ok: true, cacheMib };
  }

  /** The cache's size with this much memory; null: not ours. */
  cacheFor(memoryBytes: number): number | null {
    return this.options.hasFileCache ? fileCacheMib(Math.max(0, memoryBytes - SYS_BUFFER_BYTES)) : null;
  }

  /** The memory is now this; the cache has been resized. Says what has changed. */
  resized(memoryBytes: number, cacheMib: number | null): string {
    const usable = Math.max(0, memoryBytes - SYS_BUFFER_BYTES);
    const parts = cacheMib === null ? [] : [`set file cache size to ${cacheMib} MiB`];
    if (this.options.hasCgroup) {
      const before = this.thresholdBytes;
      this.thresholdBytes = thresholdOf(usable);
      const [from, to, total] = [before, this.thresholdBytes, usable].map(mib);
      parts.push(`set cgroup memory threshold from ${from} MiB to ${to} MiB, of new total ${total} MiB`);
    }
    return parts.length === 0 ? 'monitor is not managing cgroup or file cache' : parts.join('; ');
  }
}

function mib(bytes: number): number {
  return Math.floor(bytes / MIB);
}
