/**
 * One timeline of the page server: in-memory layers, layer files, index, and the reads over them (core/storage/store.ts says what a
 * caller may expect).
 *
 * Invariants: every version at or below `diskConsistentLsn` is in a local layer file or in the object store, at or below
 * `remoteConsistentLsn` in the object store and its index; both are record boundaries. Layers are frozen only by `advance` and
 * `checkpoint`, at the last record, so that a layer file never ends inside a record. `memoryLayers` and `layers` are replaced in one
 * step: a reader that takes both without waiting sees every version once.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '#shared/core/assert.js';
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn, lsnMax } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { UNSHARDED } from '#shared/core/shard.js';
import { ensureDir } from '#shared/io/files.js';
import type { Key } from '../core/key.js';
import { formatKey } from '../core/key.js';
import { shardFilter } from '../core/shard-keys.js';
import type { IndexPart } from '../core/storage/index-part.js';
import type { KeyLookup } from '../core/storage/key-lookup.js';
import type { LayerOwner } from '../core/storage/layer-format.js';
import { LayerMap } from '../core/storage/layer-map.js';
import { MemoryLayer } from '../core/storage/memory-layer.js';
import { TimelinePages } from '../core/storage/page-cache.js';
import type { AncestorPoint, PageOutcome, ScanEntry, TimelineStore, ValueKind } from '../core/storage/store.js';
import type { LsnOfTime, TimePoint } from '../core/storage/time-points.js';
import { findLsnOfTime } from '../core/storage/time-points.js';
import type { SettingsRef } from '../core/storage/tenant-settings.js';
import type { BottomResult } from './bottom-compaction.js';
import { BottomCompaction } from './bottom-compaction.js';
import type { CompactionOptions, CompactionTarget, LayerChain } from './compaction.js';
import { Compactor } from './compaction.js';
import { FlushQueue, writeMemoryLayer } from './flush.js';
import type { GcOptions, GcResult } from './gc.js';
import { TimelineHistory } from './gc.js';
import { IndexPublisher } from './index-publisher.js';
import { LayerFile } from './layer-file.js';
import { namesIn, timelineDir } from './local-dirs.js';
import type { LayerTarget, WrittenLayer } from './layer-writer.js';
import { LsnWaiters } from './lsn-waiters.js';
import { PageReads } from './page-reads.js';
import { Reader } from './reader.js';
import type { StorageEnv } from './storage-env.js';
import { sweep } from './sweep.js';

/** How long a read on a branch waits for its ancestor to have the branch LSN again after a restart. */
const ANCESTOR_WAIT_MS = 60_000;
/** The memory budget is looked at each time the open layer has grown by this much. */
const BUDGET_STEP_BYTES = 4 << 20;

export interface TimelineOptions {
  readonly env: StorageEnv;
  readonly generation: number;
  /** The timeline that the index names as ancestor. */
  readonly parent: Timeline | null;
  readonly index: IndexPart;
  /** The index is in the object store; false while a new root timeline is being imported. */
  readonly isPublished: boolean;
  /** Of the tenant; default: the limits of the server. */
  readonly settings?: SettingsRef | undefined;
}

export interface ImportResult {
  readonly lsn: Lsn;
  readonly prevRecordLsn: Lsn;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly pgMajor: number;
}

export class Timeline implements TimelineStore {
  readonly ttid: TenantTimelineId;
  readonly ancestor: AncestorPoint | null;
  readonly generation: number;
  readonly parent: { readonly source: Timeline; readonly lsn: Lsn } | null;
  pgMajor: number;
  systemId: bigint;
  segSize: number;
  initdbLsn: Lsn;

  lastRecordLsn: Lsn;
  prevRecordLsn: Lsn;
  diskConsistentLsn: Lsn;
  remoteConsistentLsn: Lsn;
  /** Open layer first, then frozen ones, newest first. */
  memoryLayers: readonly MemoryLayer[];
  layers: LayerMap<LayerFile> = new LayerMap<LayerFile>([]);
  readonly pages: TimelinePages;
  /** What must stay readable. */
  readonly history: TimelineHistory;

  private readonly env: StorageEnv;
  readonly shard: ShardIdentity;
  private readonly keeps: ((key: Key) => boolean) | null;
  private readonly settings: SettingsRef;
  private readonly dir: string;
  private readonly publisher: IndexPublisher;
  private readonly flushQueue: FlushQueue;
  private readonly maintenance: CompactionTarget;
  private readonly compactor: Compactor;
  private readonly bottom: BottomCompaction;
  private readonly waiters = new LsnWaiters();
  private readonly reader: Reader;
  private readonly pageReads: PageReads;
  private open: MemoryLayer;
  private importing: boolean;
  private closed = false;
  private sweeping: Promise<void> | null = null;
  private freezeWanted = false;
  /** Size of the open layer when the memory budget was last looked at. */
  private budgetedBytes = 0;
  private freezeTimer: NodeJS.Timeout | null = null;

  /** Use `createTimeline…` and `loadTimeline` of tenant-storage.ts. */
  constructor(options: TimelineOptions) {
    const { index, parent } = options;
    const { tenantId, timelineId } = index.ttid;
    const env = { ...options.env, log: options.env.log.child({ tenant: tenantId, timeline: timelineId }) };
    assert((index.ancestor === null) === (parent === null), () => `${formatTtid(index.ttid)} and its ancestor`);
    this.env = env;
    this.ttid = index.ttid;
    this.generation = options.generation;
    this.pgMajor = index.pgMajor;
    this.systemId = index.systemId;
    this.segSize = index.segSize;
    this.initdbLsn = index.initdbLsn;
    this.ancestor = index.ancestor;
    this.parent = parent === null || index.ancestor === null ? null : { source: parent, lsn: index.ancestor.lsn };
    this.settings = options.settings ?? { current: env.limits };
    this.shard = this.settings.shard ?? UNSHARDED;
    this.keeps = shardFilter(this.shard);
    const above = this.parent && { history: this.parent.source.history, lsn: this.parent.lsn };
    this.history = new TimelineHistory(index.minReadableLsn, above);
    above?.history.addBranch(timelineId, above.lsn);
    this.lastRecordLsn = index.diskConsistentLsn;
    this.prevRecordLsn = index.prevRecordLsn;
    this.diskConsistentLsn = index.diskConsistentLsn;
    this.remoteConsistentLsn = options.isPublished ? index.diskConsistentLsn : lsn(0);
    this.importing = !options.isPublished;
    this.dir = timelineDir(env, index.ttid);
    this.pages = new TimelinePages(env.pages);
    this.open = new MemoryLayer(this.importing ? lsn(0) : lsn(index.diskConsistentLsn + 1));
    this.memoryLayers = [this.open];
    this.publisher = new IndexPublisher(env.objectStore, index, options.generation);
    this.reader = new Reader(env.layers, (source, at) => (source as Timeline).waitLsn(at, ANCESTOR_WAIT_MS));
    this.pageReads = new PageReads(this, this.reader, this.pages, env.reconstructPage);
    env.memory.add(this);
    this.flushQueue = this.newFlushQueue();
    this.maintenance = this.maintenanceTarget();
    this.compactor = new Compactor(this.maintenance);
    this.bottom = new BottomCompaction(this.maintenance, this.history, this.compactor);
  }

  private newFlushQueue(): FlushQueue {
    return new FlushQueue({
      env: this.env,
      publisher: this.publisher,
      fileTarget: (kind, range) => this.fileTarget(kind, range),
      layerFile: (written) => this.layerFile(written),
      pageInMemory: (key, at) => this.pageInMemory(key, at),
      replaceMemory: (layer, file) => this.replaceMemory(layer, file),
      published: (remoteConsistentLsn) => {
        this.remoteConsistentLsn = remoteConsistentLsn;
        this.compactor.kick();
        this.sweeping ??= this.sweep();
      },
    });
  }

  private maintenanceTarget(): CompactionTarget {
    return {
      env: this.env,
      settings: this.settings,
      publisher: this.publisher,
      dir: this.dir,
      generation: this.generation,
      owner: () => this.owner(),
      layers: () => this.layers,
      chain: () => this.chain(),
      // Past the check of the cutoff: images may be due at an LSN that no client can read any more.
      readLiveSizes: async (lsnAt) => {
        const sizes = await this.env.readLiveSizes((start, end, at) => this.reader.scan(this, start, end, at), lsnAt);
        return sizes && { ...sizes, shard: this.shard };
      },
      replaceLayers: (remove, add) => (this.layers = this.layers.with({ remove, add })),
    };
  }

  /** The layers of now, of this timeline and its ancestors. */
  private chain(): LayerChain {
    const { layers, diskConsistentLsn, parent } = this;
    return { layers, diskConsistentLsn, parent: parent && { chain: parent.source.chain(), lsn: parent.lsn } };
  }

  // ---- writing

  put(key: Key, at: Lsn, kind: ValueKind, value: Uint8Array): void {
    if (this.keeps !== null && !this.keeps(key)) return;
    this.open.put(key, at, kind, value);
  }

  advance(lastRecordLsn: Lsn, prevRecordLsn: Lsn): void {
    if (lastRecordLsn < this.lastRecordLsn) {
      const text = `advance from ${formatLsn(this.lastRecordLsn)} back to ${formatLsn(lastRecordLsn)}`;
      throw new StorageError('internal', text);
    }
    this.lastRecordLsn = lastRecordLsn;
    this.prevRecordLsn = prevRecordLsn;
    const { checkpointDistanceBytes, checkpointTimeoutMs } = this.settings.current;
    if (
      this.freezeWanted ||
      this.open.sizeBytes >= this.env.limits.memoryLayerBytesMax ||
      lastRecordLsn - this.open.lsnStart >= checkpointDistanceBytes
    ) {
      this.requestFreeze();
    } else if (this.freezeTimer === null && !this.closed && lastRecordLsn >= this.open.lsnStart) {
      this.freezeTimer = setTimeout(() => this.requestFreeze(), checkpointTimeoutMs);
      this.freezeTimer.unref();
    }
    this.waiters.reached(lastRecordLsn);
    if (this.open.sizeBytes > this.budgetedBytes + BUDGET_STEP_BYTES) {
      this.budgetedBytes = this.open.sizeBytes;
      this.env.memory.enforce();
    }
  }

  /** Takes back versions above `lastRecordLsn`: of a batch that could not be finished. The WAL behind them will come again. */
  discardUnfinished(): void {
    this.open.discardAbove(this.lastRecordLsn);
    if (this.freezeWanted) this.requestFreeze();
  }

  /** Freezes now, or at the next `advance` when versions above the last record (of an unfinished batch) are in. */
  requestFreeze(): void {
    if (this.open.lsnLast <= this.lastRecordLsn) this.freeze();
    else this.freezeWanted = true;
  }

  private freeze(): void {
    if (this.importing || this.closed) return;
    this.freezeWanted = false;
    if (this.freezeTimer !== null) clearTimeout(this.freezeTimer);
    this.freezeTimer = null;
    if (this.lastRecordLsn < this.open.lsnStart) return;
    const frozen = this.open;
    frozen.freeze(lsn(this.lastRecordLsn + 1), this.prevRecordLsn);
    this.open = new MemoryLayer(frozen.lsnEnd);
    this.budgetedBytes = 0;
    this.memoryLayers = [this.open, ...this.memoryLayers];
    this.flushQueue.add(frozen);
  }

  async waitForRoom(): Promise<void> {
    await this.flushQueue.waitForRoom();
    await this.env.memory.waitForRoom();
    await this.compactor.waitForRoom();
  }

  async checkpoint(): Promise<Lsn> {
    if (this.closed) throw this.stopped();
    if (this.importing) throw new StorageError('precondition', `${formatTtid(this.ttid)} is being imported`);
    const target = this.lastRecordLsn;
    if (target >= this.open.lsnStart) this.requestFreeze();
    await this.flushQueue.waitPublished(target);
    return lsnMax(this.remoteConsistentLsn, target);
  }

  private owner(): LayerOwner {
    return { ttid: this.ttid, pgMajor: this.pgMajor };
  }

  private async fileTarget(kind: 'delta' | 'image', range: { lsnStart: Lsn; lsnEnd: Lsn }): Promise<LayerTarget> {
    await ensureDir(this.dir);
    return { dir: this.dir, owner: this.owner(), generation: this.generation, kind, ...pick(range) };
  }

  private layerFile(written: WrittenLayer): LayerFile {
    const owner = this.owner();
    const metadata = { sizeBytes: written.sizeBytes, crc: written.crc };
    return new LayerFile({ name: written.name, dir: this.dir, owner, metadata, resident: true, uploaded: false });
  }

  private replaceMemory(layer: MemoryLayer, file: LayerFile | null): void {
    if (file !== null) {
      this.layers = this.layers.with({ add: [file] });
      this.env.layers.noteLocal(file);
    }
    this.memoryLayers = this.memoryLayers.filter((candidate) => candidate !== layer);
    this.env.memory.freed();
    this.diskConsistentLsn = lsn(layer.lsnEnd - 1);
  }

  /**
   * Ends the import of a new root timeline: all values were put at `result.lsn`. Writes them as one image layer over all keys, uploads it
   * and the first index; from then on the timeline exists.
   */
  async finishImport(result: ImportResult): Promise<void> {
    if (!this.importing) throw new StorageError('precondition', `${formatTtid(this.ttid)} is no new timeline`);
    if (this.open.lsnLast !== result.lsn) {
      throw new StorageError('internal', `imported values are at ${formatLsn(this.open.lsnLast)}`);
    }
    const { pgMajor, systemId, segSize, prevRecordLsn } = result;
    Object.assign(this, { pgMajor, systemId, segSize, initdbLsn: result.lsn });
    const range = { lsnStart: result.lsn, lsnEnd: lsn(result.lsn + 1) };
    const written = await writeMemoryLayer(this.open, await this.fileTarget('image', range), null);
    assert(written !== null, () => 'an import without values');
    const file = this.layerFile(written);
    await this.env.objectStore.putFile(file.objectKey, file.path);
    file.uploaded = true;
    await this.publisher.publish((index) => ({
      ...index,
      ...{ pgMajor, systemId, segSize, prevRecordLsn },
      initdbLsn: result.lsn,
      minReadableLsn: result.lsn,
      diskConsistentLsn: result.lsn,
      layers: new Map([[file.name, file.metadata]]),
    }));
    this.layers = new LayerMap([file]);
    this.env.layers.noteLocal(file);
    this.history.begin(result.lsn);
    this.open = new MemoryLayer(lsn(result.lsn + 1));
    this.memoryLayers = [this.open];
    this.importing = false;
    this.lastRecordLsn = result.lsn;
    this.prevRecordLsn = prevRecordLsn;
    this.diskConsistentLsn = result.lsn;
    this.remoteConsistentLsn = result.lsn;
  }

  /** Ends a streamed import (createImportTimeline): from then on the timeline exists, readable from `result.lsn` on. */
  async finishStreamedImport({ lsn: begin, pgMajor, systemId, segSize }: ImportResult): Promise<void> {
    await this.checkpoint();
    Object.assign(this, { pgMajor, systemId, segSize, initdbLsn: begin });
    const facts = { pgMajor, systemId, segSize, initdbLsn: begin, minReadableLsn: begin, isImporting: false };
    await this.publisher.publish((current) => ({ ...current, ...facts }));
    this.history.begin(begin);
  }

  /** Merges layers or makes images if enough have come together; true when it did. Happens by itself after flushes. */
  compact(options: CompactionOptions = {}): Promise<boolean> {
    return this.compactor.compact(options);
  }

  /** As `compact` for what is due, without waiting. */
  kickCompaction(): void {
    this.compactor.kick();
  }

  /** Gives up history that need not be kept any more. */
  collectGarbage(options: GcOptions = {}): Promise<GcResult> {
    if (this.importing) {
      return Promise.reject(new StorageError('precondition', `${formatTtid(this.ttid)} is being imported`));
    }
    const { lastRecordLsn, remoteConsistentLsn } = this;
    const target = { ...this.maintenance, lastRecordLsn, remoteConsistentLsn };
    const inputs = { options, points: () => this.timePoints(), nowMs: Date.now() };
    return this.history.collect(target, this.compactor, inputs);
  }

  /** Merges what history is left below the cutoff; behind `collectGarbage`. `force`: however little it is. */
  compactHistory(options: { force?: boolean } = {}): Promise<BottomResult> {
    return this.bottom.run(options);
  }

  /** Once, after the first index of this generation. */
  private async sweep(): Promise<void> {
    try {
      const objectCount = await sweep(this.env.objectStore, this.index, this.generation);
      if (objectCount > 0) this.env.log.info({ objectCount }, 'removed objects of earlier generations');
    } catch (error) {
      this.env.log.warn({ error: errorText(error) }, 'could not remove objects of earlier generations');
    }
  }

  // ---- reading

  waitLsn(target: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (target <= this.lastRecordLsn) return Promise.resolve();
    if (this.closed) return Promise.reject(this.stopped());
    const where = () => `timeline ${this.ttid.timelineId} is at ${formatLsn(this.lastRecordLsn)}`;
    return this.waiters.wait(target, timeoutMs, signal, where);
  }

  /** Reads below are refused: history is gone, or never was here. */
  get minReadableLsn(): Lsn {
    return this.history.cutoff;
  }

  async get(key: Key, at: Lsn): Promise<Uint8Array | null> {
    const lookup = this.reader.tryLookup(this, key, at, null) ?? (await this.reader.lookup(this, key, at, null));
    this.history.check(at);
    return metadataValue(key, lookup);
  }

  /** As `get`, without waiting: undefined when a file must be read. */
  tryGet(key: Key, at: Lsn): Uint8Array | null | undefined {
    this.history.check(at);
    const lookup = this.reader.tryLookup(this, key, at, null);
    return lookup === undefined ? undefined : metadataValue(key, lookup);
  }

  async scan(start: Key, end: Key, at: Lsn): Promise<ScanEntry[]> {
    const entries = await this.reader.scan(this, start, end, at);
    this.history.check(at);
    return entries;
  }

  /** As `getPage`, without waiting: undefined when a file must be read or an ancestor waited for. */
  tryGetPage(key: Key, at: Lsn): Uint8Array | null | undefined {
    return this.pageReads.tryGet(key, at);
  }

  getPage(key: Key, at: Lsn): Promise<Uint8Array | null> {
    return this.pageReads.get(key, at);
  }

  getPages(keys: readonly Key[], at: Lsn, signal?: AbortSignal): Promise<PageOutcome[]> {
    return this.pageReads.getMany(keys, at, signal);
  }

  checkReadable(at: Lsn): void {
    this.history.check(at);
  }

  /** For images at flush: worth having, never worth failing for (a read will say what is wrong with the page). */
  private pageInMemory(key: Key, at: Lsn): Uint8Array | null {
    try {
      return this.tryGetPage(key, at) ?? null;
    } catch (error) {
      if (error instanceof StorageError) return null;
      throw error;
    }
  }

  // ---- history

  /** Of commits, in order, thinned by age: time-points.ts says how. Those of the ancestor up to the branch point are included. */
  private timePoints(): TimePoint[] {
    return this.history.timePoints(this, this.parent?.source.timePoints() ?? []);
  }

  /** Of ancestors, up to the branch point. */
  inheritedTimePoints(): TimePoint[] {
    return this.parent?.source.timePoints().filter((point) => point.lsn <= this.parent!.lsn) ?? [];
  }

  lsnOfTime(timeMs: number): LsnOfTime {
    return findLsnOfTime(this.timePoints(), timeMs, this);
  }

  /** Unix time of the last known commit at or below an LSN; null without one. Throws StorageError `invalid` below the cutoff. */
  timeOfLsn(at: Lsn): number | null {
    this.history.check(at);
    return this.timePoints().findLast((point) => point.lsn <= at)?.timeMs ?? null;
  }

  /** Keeps an LSN readable for the time set for the tenant. Returns the end in Unix ms. Throws StorageError `invalid` below the cutoff. */
  leaseLsn(at: Lsn): number {
    return this.history.lease(at, this.settings.current.lsnLeaseLengthS * 1000, Date.now());
  }

  // ---- life

  get index(): IndexPart {
    return this.publisher.published;
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** Bytes in the open and frozen in-memory layers. */
  get memoryBytes(): number {
    return this.memoryLayers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  }

  /** Bytes of all layer files. */
  get layerBytes(): number {
    return this.layers.layers.reduce((sum, layer) => sum + layer.metadata.sizeBytes, 0);
  }

  get compactionCount(): number {
    return this.compactor.doneCount;
  }

  get imageLayerCount(): number {
    return this.compactor.imageLayerCount;
  }

  /** Commit times in the object store's index. */
  get publishedTimePoints(): readonly TimePoint[] {
    return this.index.timePoints;
  }

  /** Failed flushes and compactions: each was or will be tried again. */
  get backgroundFailureCount(): number {
    return this.flushQueue.failureCount + this.compactor.failureCount;
  }

  get heldBackCount(): number {
    return this.compactor.heldBackCount;
  }

  get waitingReaders(): number {
    return this.waiters.count;
  }

  /** Fits the local directory to the index: what the index does not know is removed, complete files are used as they are. */
  async adoptLocalFiles(): Promise<void> {
    const { layers } = this.index;
    const resident = new Set<string>();
    for (const name of await namesIn(this.dir)) {
      const known = layers.get(name);
      const path = join(this.dir, name);
      if (known !== undefined && (await stat(path)).size === known.sizeBytes) resident.add(name);
      else await rm(path, { recursive: true, force: true });
    }
    const owner = this.owner();
    this.layers = new LayerMap(
      [...layers].map(
        ([name, metadata]) =>
          new LayerFile({ name, dir: this.dir, owner, metadata, resident: resident.has(name), uploaded: true }),
      ),
    );
    for (const layer of this.layers.layers) this.env.layers.noteLocal(layer);
  }

  private stopped(): StorageError {
    return new StorageError('cancelled', `timeline ${formatTtid(this.ttid)} is stopping`);
  }

  /** Stops without flushing (call `checkpoint` first to flush). Waiting readers get `cancelled`. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    if (this.freezeTimer !== null) clearTimeout(this.freezeTimer);
    this.waiters.failAll(this.stopped());
    this.env.memory.remove(this);
    await Promise.all([this.sweeping, this.flushQueue.stop(), this.compactor.stop()]);
    this.pages.clear();
    for (const layer of this.layers.layers) this.env.layers.release(layer);
    await this.env.layers.whenEvicted();
  }
}

function pick(range: { lsnStart: Lsn; lsnEnd: Lsn }): { lsnStart: Lsn; lsnEnd: Lsn } {
  return { lsnStart: range.lsnStart, lsnEnd: range.lsnEnd };
}

function metadataValue(key: Key, lookup: KeyLookup<LayerFile>): Uint8Array | null {
  if (lookup.records.length > 0) {
    throw new StorageError('corrupt', `${formatKey(key)} at ${formatLsn(lookup.newestLsn)} is not a plain value`);
  }
  return lookup.absent || lookup.base === null ? null : lookup.base.slice();
}
