/**
 * The way of frozen in-memory layers into the object store, oldest first, one at a time:
 *   local L0 file (durable) → readers use it, memory is given back → upload of the file → upload of the index.
 * A step that fails is tried again with growing pauses; ingest is held back when too many layers wait.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError, errorKind, errorText } from '#shared/core/errors.js';
import { lsn, lsnToHex } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { MAX_KEY, MIN_KEY } from '../core/storage/layer-name.js';
import type { MemoryLayer } from '../core/storage/memory-layer.js';
import { VALUE_IMAGE, VALUE_RECORD } from '../core/storage/store.js';
import { layerPoints, mergePoints } from '../core/storage/time-points.js';
import type { Key } from '../core/key.js';
import type { IndexPublisher } from './index-publisher.js';
import { LayerFile } from './layer-file.js';
import { LayerWriter } from './layer-writer.js';
import type { LayerTarget, WrittenLayer } from './layer-writer.js';
import type { StorageEnv } from './storage-env.js';

export interface FlushTarget {
  readonly env: StorageEnv;
  readonly publisher: IndexPublisher;
  /** Owner, directory and generation of new files. */
  fileTarget(kind: 'delta' | 'image', range: { lsnStart: Lsn; lsnEnd: Lsn }): Promise<LayerTarget>;
  layerFile(written: WrittenLayer): LayerFile;
  /** The page at an LSN when it can be had without IO, else null. */
  pageInMemory(key: Key, at: Lsn): Uint8Array | null;
  /** In one step: readers see the file (if there is one) instead of the in-memory layer. */
  replaceMemory(layer: MemoryLayer, file: LayerFile | null): void;
  /** The index in the object store covers this LSN now. */
  published(remoteConsistentLsn: Lsn): void;
}

interface FlushJob {
  readonly layer: MemoryLayer;
  /** Undefined: not written yet; null: the layer had no versions. */
  file: LayerFile | null | undefined;
}

interface Waiter {
  /** Fulfilled when this LSN is published; null = waits for room. */
  readonly lsn: Lsn | null;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Adds images to a layer that is being written. */
export interface ImageMaker {
  /** A key whose newest this many versions in the layer are records gets an image behind them. */
  readonly recordsMin: number;
  pageInMemory(key: Key, at: Lsn): Uint8Array | null;
}

/**
 * Writes a layer's versions sorted; null when it has none. In an image layer only the newest version of a key is kept. In a delta layer
 * `images` puts an image behind a long chain of records, at the LSN of the last: a read of what is newer stops there.
 */
export async function writeMemoryLayer(
  layer: MemoryLayer,
  target: LayerTarget,
  images: ImageMaker | null,
): Promise<WrittenLayer | null> {
  const writer = new LayerWriter(target);
  await writer.open();
  try {
    const history: number[] = [];
    for (const key of layer.sortedKeys()) {
      layer.history(key, history);
      for (const position of target.kind === 'image' ? history.slice(-1) : history) {
        const { kind, value } = { kind: layer.kindAt(position), value: layer.valueAt(position) };
        if (writer.add(key, layer.lsnAt(position), kind, value)) await writer.drain();
      }
      if (images === null || !endsInRecords(layer, history, images.recordsMin)) continue;
      const last = layer.lsnAt(history.at(-1)!);
      const page = images.pageInMemory(key, last);
      if (page !== null && writer.add(key, last, VALUE_IMAGE, page)) await writer.drain();
    }
    return await writer.finish({ keyStart: MIN_KEY, keyEnd: MAX_KEY });
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

function endsInRecords(layer: MemoryLayer, history: readonly number[], recordsMin: number): boolean {
  if (history.length < recordsMin) return false;
  return history.slice(-recordsMin).every((position) => layer.kindAt(position) === VALUE_RECORD);
}

export class FlushQueue {
  failureCount = 0;
  private readonly target: FlushTarget;
  private readonly images: ImageMaker;
  private readonly jobs: FlushJob[] = [];
  private readonly waiters = new Set<Waiter>();
  /** Somebody newer has the timeline: nothing is uploaded any more. */
  private fencedBy: unknown = null;
  private readonly stopping = new AbortController();
  /** Set and cleared without waiting in between, so that a layer that comes just as the queue runs dry is not left lying. */
  private isRunning = false;
  private running: Promise<void> | null = null;

  constructor(target: FlushTarget) {
    this.target = target;
    this.images = {
      recordsMin: target.env.limits.imageAfterRecords,
      pageInMemory: (key, at) => target.pageInMemory(key, at),
    };
  }

  get length(): number {
    return this.jobs.length;
  }

  add(layer: MemoryLayer): void {
    this.jobs.push({ layer, file: undefined });
    if (this.isRunning || this.fencedBy !== null) return;
    this.isRunning = true;
    this.running = this.run();
  }

  waitForRoom(): Promise<void> {
    return this.jobs.length < this.target.env.limits.frozenLayersMax ? Promise.resolve() : this.wait(null);
  }

  /** Until the index covers `lsn`. Rejects with what the first failing step threw, though the queue goes on trying. */
  waitPublished(lsn: Lsn): Promise<void> {
    return this.target.publisher.published.diskConsistentLsn >= lsn ? Promise.resolve() : this.wait(lsn);
  }

  private wait(lsn: Lsn | null): Promise<void> {
    if (this.stopping.signal.aborted) return Promise.reject(stopped());
    if (this.fencedBy !== null) return Promise.reject(this.fencedBy);
    return new Promise((resolve, reject) => this.waiters.add({ lsn, resolve, reject }));
  }

  private settle(): void {
    const covered = this.target.publisher.published.diskConsistentLsn;
    const room = this.jobs.length < this.target.env.limits.frozenLayersMax;
    for (const waiter of this.waiters) {
      if (waiter.lsn === null ? !room : waiter.lsn > covered) continue;
      this.waiters.delete(waiter);
      waiter.resolve();
    }
  }

  private async run(): Promise<void> {
    const { limits, log } = this.target.env;
    let pauseMs = limits.retryMinMs;
    while (!this.stopping.signal.aborted) {
      const job = this.jobs[0];
      if (job === undefined) break;
      try {
        await this.flush(job);
        this.jobs.shift();
        pauseMs = limits.retryMinMs;
        this.settle();
      } catch (error) {
        if (error instanceof AssertionFailure) throw error;
        if (this.stopping.signal.aborted) break;
        if (errorKind(error) === 'fenced') {
          this.endFenced(error);
          break;
        }
        this.failureCount++;
        log.warn({ error: errorText(error), lsn: lsnToHex(job.layer.lsnEnd), pauseMs }, 'flush failed, will try again');
        this.rejectPublished(error);
        await delay(pauseMs, undefined, { signal: this.stopping.signal }).catch(() => undefined);
        pauseMs = Math.min(limits.retryMaxMs, pauseMs * 2);
      }
    }
    this.isRunning = false;
  }

  private endFenced(error: unknown): void {
    this.fencedBy = error;
    for (const waiter of this.waiters) waiter.reject(error);
    this.waiters.clear();
  }

  private rejectPublished(error: unknown): void {
    for (const waiter of this.waiters) {
      if (waiter.lsn === null) continue;
      this.waiters.delete(waiter);
      waiter.reject(error);
    }
  }

  private async flush(job: FlushJob): Promise<void> {
    const { layer } = job;
    if (job.file === undefined) {
      const written =
        layer.versionCount === 0
          ? null
          : await writeMemoryLayer(layer, await this.target.fileTarget('delta', layer), this.images);
      job.file = written === null ? null : this.target.layerFile(written);
      this.target.replaceMemory(layer, job.file);
    }
    const { file } = job;
    const { signal } = this.stopping;
    if (file !== null && !file.uploaded) {
      await this.target.env.objectStore.putFile(file.objectKey, file.path, signal);
      file.uploaded = true;
      this.target.env.layers.evict();
    }
    const commits = layerPoints(layer);
    const diskConsistentLsn = lsn(layer.lsnEnd - 1);
    await this.target.publisher.publish((index) => {
      const layers = file === null ? index.layers : new Map(index.layers).set(file.name, file.metadata);
      const timePoints = mergePoints(index.timePoints, commits);
      return { ...index, layers, timePoints, diskConsistentLsn, prevRecordLsn: layer.prevRecordLsn };
    }, signal);
    this.target.published(diskConsistentLsn);
  }

  /** Stops after the step under way; what is in memory only stays unflushed (it is still in WAL). */
  async stop(): Promise<void> {
    this.stopping.abort();
    for (const waiter of this.waiters) waiter.reject(stopped());
    this.waiters.clear();
    await this.running;
  }
}

function stopped(): StorageError {
  return new StorageError('cancelled', 'the timeline is stopping');
}
