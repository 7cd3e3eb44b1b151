/**
 * For tests: the store against its slow twin (store-model.ts) under random histories: puts, advances, freezes, flushes, merges, image
 * layers, garbage collection, compaction of old history, evictions, restarts with and without the local files, branches, their deletion and
 * their detachment, reads at any LSN that is not given up. All of it follows from the seed.
 */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { internPrefix, keyOf, makeKey } from '../../core/key.js';
import type { Key } from '../../core/key.js';
import { VALUE_IMAGE, VALUE_INIT, VALUE_RECORD, VALUE_TOMBSTONE } from '../../core/storage/store.js';
import type { ValueKind } from '../../core/storage/store.js';
import { createStorageEnv } from '../storage-env.js';
import type { ReconstructPage, StorageEnv } from '../storage-env.js';
import {
  createBranch,
  createRootTimeline,
  listTimelines,
  loadIndex,
  loadTimeline,
  markTimelineDeleted,
  removeTimeline,
} from '../tenant-storage.js';
import { copyAncestorLayers, detachedIndex, inheritanceOf, reparentedIndex } from '../detach.js';
import { indexKey } from '../object-keys.js';
import type { IndexPart } from '../../core/storage/index-part.js';
import { encodeIndexPart } from '../../core/storage/index-part.js';
import { foldRedo } from './fold-redo.js';
import { inlineJobs } from './inline-jobs.js';
import { StoreModel } from './store-model.js';
import type { Timeline } from '../timeline.js';

const TENANT = parseTenantId('11'.repeat(16));
const PAGE_PREFIXES = [
  internPrefix(0, 1663, 5, 16384, 0),
  internPrefix(0, 1663, 5, 16385, 0),
  internPrefix(1, 0, 1, 0, 0),
];
const META_START = keyOf({ field1: 0x60, field2: 0, field3: 0, field4: 0, field5: 0, field6: 0 });
const META_END = keyOf({ field1: 0x70, field2: 0, field3: 0, field4: 0, field5: 0, field6: 0 });

/** A small generator with a seed that can be printed (mulberry32). */
function makeRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** For images only: some pages stay without, as with records that redo does not know. */
const sometimesRefusing: ReconstructPage = (base, records) => {
  if (records.at(-1)!.value[0] === 7) throw new StorageError('unimplemented', 'no redo of seven');
  return foldRedo(base, records);
};

function applyTo(index: IndexPart, change: (index: IndexPart) => IndexPart): IndexPart {
  return change(index);
}

interface Pair {
  timeline: Timeline;
  readonly model: StoreModel;
  nextLsn: number;
}

class World {
  readonly pairs: Pair[] = [];
  readonly counts = {
    puts: 0,
    reads: 0,
    restarts: 0,
    compactions: 0,
    branches: 0,
    flushes: 0,
    imageLayers: 0,
    removedLayers: 0,
    refusals: 0,
    evictions: 0,
    trimmedLayers: 0,
    detached: 0,
    deleted: 0,
  };
  private timelineCount = 1;
  readonly random: (below: number) => number;
  private env: StorageEnv;
  private generation = 1;
  private readonly dir: string;
  private readonly objectStore: ObjectStore;

  constructor(seed: number, dir: string, objectStore: ObjectStore) {
    this.random = makeRandom(seed);
    this.dir = dir;
    this.objectStore = objectStore;
    this.env = this.newEnv();
  }

  private newEnv(): StorageEnv {
    const limits = {
      memoryLayerBytesMax: 3 << 20,
      frozenLayersMax: 2,
      imageAfterRecords: 3,
      compactionThreshold: 4,
      compactionLayersMax: 6,
      layerTargetBytes: 20_000,
      pageCacheBytes: this.random(2) === 0 ? 1 << 20 : 60_000,
      blockCacheBytes: this.random(2) === 0 ? 1 << 20 : 1,
      openFilesMax: 2,
      imageCreationThreshold: 1 + this.random(3),
      imageJobBytesMax: this.random(2) === 0 ? 1 : 1 << 20,
      localLayerBytesMax: this.random(2) === 0 ? Infinity : 30_000,
    };
    return createStorageEnv({
      objectStore: this.objectStore,
      workDir: join(this.dir, 'local'),
      log: silentLogger,
      reconstructPage: foldRedo,
      layerJobs: inlineJobs(sometimesRefusing),
      readLiveSizes: async () => null,
      limits,
    });
  }

  pick<T>(items: readonly T[]): T {
    return items[this.random(items.length)]!;
  }

  pageKey(): Key {
    return makeKey(this.pick(PAGE_PREFIXES), this.random(8) === 0 ? 0xffff_fff0 + this.random(8) : this.random(40));
  }

  metaKey(): Key {
    const fields = { field2: 1663, field3: 5, field4: this.random(15), field5: this.random(2), field6: 0 };
    return keyOf({ field1: 0x60 + this.random(3), ...fields });
  }

  bytes(): Uint8Array {
    const value = new Uint8Array(this.random(5) === 0 ? 3000 : this.random(200));
    for (let i = 0; i < Math.min(value.length, 16); i++) value[i] = this.random(256);
    return value;
  }

  image(): Uint8Array {
    if (this.random(4) === 0) return new Uint8Array(0);
    const page = new Uint8Array(8192);
    for (let i = 0; i < 32; i++) page[i] = this.random(256);
    return page;
  }

  private putOne(pair: Pair, at: Lsn): void {
    const write = (key: Key, kind: ValueKind, value: Uint8Array) => {
      this.counts.puts++;
      pair.timeline.put(key, at, kind, value);
      pair.model.put(key, at, kind, value);
    };
    if (this.random(4) === 0) {
      const kind = this.random(4) === 0 ? VALUE_TOMBSTONE : VALUE_IMAGE;
      write(this.metaKey(), kind, kind === VALUE_TOMBSTONE ? new Uint8Array(0) : this.bytes());
      return;
    }
    const dice = this.random(10);
    const key = this.pageKey();
    if (dice === 0) write(key, VALUE_IMAGE, this.image());
    else if (dice === 1) write(key, VALUE_INIT, this.bytes());
    else write(key, VALUE_RECORD, this.bytes());
  }

  async write(pair: Pair): Promise<void> {
    const start = pair.nextLsn;
    for (let i = this.random(30); i >= 0; i--) {
      pair.nextLsn += 8 * (1 + this.random(10));
      for (let j = this.random(3); j >= 0; j--) this.putOne(pair, lsn(pair.nextLsn));
    }
    if (this.random(10) === 0) {
      pair.timeline.discardUnfinished();
      pair.model.discardAbove(pair.timeline.lastRecordLsn);
      pair.nextLsn = start;
      return;
    }
    if (this.random(5) === 0) pair.nextLsn += 8 * this.random(1000);
    await pair.timeline.waitForRoom();
    pair.timeline.advance(lsn(pair.nextLsn), lsn(pair.nextLsn - 8));
  }

  readLsn(pair: Pair): Lsn {
    const low = pair.timeline.minReadableLsn;
    if (this.random(2) === 0) return pair.timeline.lastRecordLsn;
    return lsn(low + this.random(pair.timeline.lastRecordLsn - low + 1));
  }

  async read(pair: Pair): Promise<void> {
    const { timeline, model } = pair;
    const at = this.readLsn(pair);
    this.counts.reads++;
    if (this.random(20) === 0) {
      const [a, b] = this.random(2) === 0 ? [META_START, META_END] : [this.metaKey(), META_END];
      const found = await timeline.scan(a, b, at);
      const wanted = model.scan(a, b, at);
      assert.deepEqual(
        found.map(({ key, value }) => [key, Buffer.from(value)]),
        wanted.map(({ key, value }) => [key, Buffer.from(value)]),
        `scan at ${formatLsn(at)}`,
      );
    } else if (this.random(4) === 0) {
      const key = this.metaKey();
      const found = await timeline.get(key, at);
      const wanted = model.get(key, at);
      assert.deepEqual(found && Buffer.from(found), wanted && Buffer.from(wanted), `get at ${formatLsn(at)}`);
    } else {
      // One page, or several with one plan.
      const key = this.pageKey();
      const several = (key / 7) % 2 < 1 ? [key, this.pageKey(), key, this.pageKey(), this.pageKey()] : null;
      const pages = several === null ? [await timeline.getPage(key, at)] : await timeline.getPages(several, at);
      (several ?? [key]).forEach((each, i) => {
        const wanted = model.page(each, at);
        const found = pages[i]!;
        if (found instanceof StorageError) throw found;
        assert.equal(found?.length, wanted === null ? undefined : 8192);
        const text = `page ${each} at ${formatLsn(at)} of ${timeline.ttid.timelineId}`;
        assert.deepEqual(
          found && Buffer.from(found).subarray(0, 64),
          wanted && Buffer.from(wanted).subarray(0, 64),
          text,
        );
      });
    }
  }

  /** What is read meanwhile is right or refused. */
  async collectGarbage(pair: Pair): Promise<void> {
    const { timeline } = pair;
    const before = timeline.minReadableLsn;
    const gcHorizonBytes = this.random(3) === 0 ? this.random(timeline.lastRecordLsn - timeline.initdbLsn + 1) : 0;
    const reading = this.read(pair).catch((error: unknown) => {
      if (errorKind(error) !== 'invalid') throw error;
      this.counts.refusals++;
    });
    const held = this.random(4) === 0 ? this.readLsn(pair) : null;
    const release = held === null ? null : timeline.history.hold(held);
    const { cutoff, layersRemoved } = await timeline.collectGarbage({ gcHorizonBytes, pitrIntervalS: 0 });
    await reading;
    assert.ok(cutoff >= before && cutoff <= (held ?? timeline.lastRecordLsn) && cutoff === timeline.minReadableLsn);
    this.counts.removedLayers += layersRemoved;
    release?.();
    if (cutoff > timeline.initdbLsn) {
      await assert.rejects(timeline.getPage(this.pageKey(), lsn(cutoff - 1)), /is below the GC cutoff/);
    }
  }

  async branch(pair: Pair): Promise<void> {
    if (this.pairs.length >= 4) return;
    const low = Math.max(pair.timeline.ancestor?.lsn ?? 0, pair.timeline.minReadableLsn);
    const at =
      this.random(2) === 0
        ? pair.timeline.lastRecordLsn
        : lsn(low + this.random(pair.timeline.lastRecordLsn - low + 1));
    const timelineId = parseTimelineId((++this.timelineCount).toString(16).padStart(32, '0'));
    const timeline = await createBranch(this.env, pair.timeline, { timelineId, at, generation: this.generation });
    this.pairs.push({ timeline, model: new StoreModel({ model: pair.model, lsn: at }), nextLsn: at });
    this.counts.branches++;
  }

  /** Of a branch without branches. */
  async deleteBranch(pair: Pair): Promise<void> {
    const { timeline } = pair;
    const { timelineId } = timeline.ttid;
    if (timeline.parent === null || this.pairs.some(({ timeline: other }) => other.ancestor?.timelineId === timelineId))
      return;
    await timeline.close();
    this.tally(timeline);
    await markTimelineDeleted(this.env, timeline.ttid, { generation: this.generation, nowMs: 1 });
    timeline.parent.source.history.removeBranch(timelineId);
    await removeTimeline(this.env, timeline.ttid);
    this.pairs.splice(this.pairs.indexOf(pair), 1);
    this.counts.deleted++;
  }

  /** As tenant/detach.ts does it, with everything loaded anew behind it. */
  async detach({ timeline }: Pair): Promise<void> {
    const { ancestor } = timeline;
    if (ancestor === null) return;
    const copies = await copyAncestorLayers(this.env, timeline, new AbortController().signal);
    await this.restart(async () => {
      const { timelineId } = timeline.ttid;
      const inheritance = inheritanceOf(timeline, copies);
      await this.changeIndex(timeline, (index) => detachedIndex(index, inheritance));
      for (const { timeline: other } of this.pairs) {
        if (other === timeline || other.ancestor?.timelineId !== ancestor.timelineId) continue;
        if (other.ancestor.lsn > ancestor.lsn) continue;
        const { cutoff } = other.history;
        await this.changeIndex(other, (index) => reparentedIndex(index, timelineId, cutoff));
      }
    });
    this.counts.detached++;
  }

  private async changeIndex({ ttid }: Timeline, change: Parameters<typeof applyTo>[1]): Promise<void> {
    const found = await loadIndex(this.objectStore, ttid, this.generation);
    await this.objectStore.put(indexKey(ttid, this.generation), encodeIndexPart(applyTo(found!.index, change)));
  }

  /** Merges what lies below the cutoff; what is read meanwhile is right. */
  async compactHistory(pair: Pair): Promise<void> {
    const reading = this.read(pair);
    const { layersTrimmed, imageLayers } = await pair.timeline.compactHistory({ force: this.random(4) > 0 });
    await reading;
    this.counts.trimmedLayers += layersTrimmed;
    this.counts.imageLayers += imageLayers;
  }

  /** Drops every object and opens the tenant again; history above what was durable is lost and written anew. */
  async restart(change: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    this.counts.restarts++;
    for (const { timeline } of this.pairs) {
      assert.ok(timeline.remoteConsistentLsn <= timeline.diskConsistentLsn);
      await timeline.close();
      this.tally(timeline);
      assert.equal(timeline.backgroundFailureCount, 0);
    }
    this.counts.evictions += this.env.layers.evictionCount;
    const durable = new Map(this.pairs.map(({ timeline }) => [timeline.ttid.timelineId, timeline.remoteConsistentLsn]));
    await this.env.layers.close();
    await change();
    if (this.random(2) === 0) await rm(join(this.dir, 'local'), { recursive: true, force: true });
    this.env = this.newEnv();
    this.generation++;
    const loaded = new Map<string, Timeline>();
    for (const { timelineId, index } of await listTimelines(this.objectStore, TENANT, this.generation)) {
      const parent = index.ancestor === null ? null : (loaded.get(index.ancestor.timelineId) ?? null);
      const timeline = await loadTimeline(this.env, index, { generation: this.generation, parent });
      loaded.set(timelineId, timeline);
      const pair = this.pairs.find((candidate) => candidate.timeline.ttid.timelineId === timelineId)!;
      assert.ok(timeline.lastRecordLsn >= durable.get(timelineId)!, 'acknowledged data is gone');
      assert.ok(timeline.minReadableLsn >= pair.timeline.minReadableLsn, 'the cutoff went back');
      this.replay(pair, timeline);
    }
  }

  private tally(timeline: Timeline): void {
    this.counts.compactions += timeline.compactionCount;
    this.counts.imageLayers += timeline.imageLayerCount;
  }

  /** What a WAL receiver does after a restart: the same records again, from the last one that was kept. */
  private replay(pair: Pair, timeline: Timeline): void {
    const last = pair.timeline.lastRecordLsn;
    const prev = pair.timeline.prevRecordLsn;
    if (timeline.lastRecordLsn === last && last > timeline.initdbLsn) assert.equal(timeline.prevRecordLsn, prev);
    pair.timeline = timeline;
    for (const { key, lsn: at, kind, value } of pair.model.versions) {
      if (at > timeline.lastRecordLsn) timeline.put(key, at, kind, value);
    }
    timeline.advance(last, prev);
  }

  async step(): Promise<void> {
    const pair = this.pick(this.pairs);
    const dice = this.random(100);
    if (dice < 30) await this.write(pair);
    else if (dice < 90) await this.read(pair);
    else if (dice < 92) await this.collectGarbage(pair);
    else if (dice < 94) {
      this.counts.flushes++;
      const flushed = pair.timeline.checkpoint();
      if (this.random(2) === 0) await flushed;
      else flushed.catch(() => undefined);
    } else if (dice < 95) await this.branch(pair);
    else if (dice < 96) await this.compactHistory(pair);
    else if (dice < 99)
      await pair.timeline.compact({ forceMerge: this.random(2) === 0, forceImages: this.random(2) === 0 });
    else if (this.random(10) > 0) await this.restart();
    else if (this.random(2) === 0) await this.detach(pair);
    else await this.deleteBranch(pair);
  }

  async begin(): Promise<void> {
    const ttid = { tenantId: TENANT, timelineId: parseTimelineId('0'.repeat(31) + '1') };
    const timeline = await createRootTimeline(this.env, ttid, { generation: 1, pgMajor: 15 });
    const pair = { timeline, model: new StoreModel(), nextLsn: 0x1000 };
    for (let i = 0; i < 30; i++) {
      const [key, value] = i % 2 === 0 ? [this.metaKey(), this.bytes()] : [this.pageKey(), this.image()];
      timeline.put(key, lsn(0x1000), VALUE_IMAGE, value);
      pair.model.put(key, lsn(0x1000), VALUE_IMAGE, value);
    }
    const identity = { systemId: 7n, segSize: 1 << 24, pgMajor: 15 };
    await timeline.finishImport({ lsn: lsn(0x1000), prevRecordLsn: lsn(0xf00), ...identity });
    this.pairs.push(pair);
  }

  /** After a flush in the last generation nothing is in the object store but what the indexes name. */
  private async checkObjects(timeline: Timeline): Promise<void> {
    timeline.advance(lsn(timeline.lastRecordLsn + 8), lsn(timeline.lastRecordLsn));
    await timeline.checkpoint();
    await timeline.close();
    const { tenantId, timelineId } = timeline.ttid;
    const keys = await this.objectStore.list(`tenants/${tenantId}/timelines/${timelineId}/`);
    const earlier = keys.filter((key) => !key.endsWith(`-${this.generation.toString(16).padStart(8, '0')}`));
    for (const key of earlier) assert.ok(timeline.index.layers.has(key.slice(key.lastIndexOf('/') + 1)), key);
  }

  async end(failed: boolean): Promise<void> {
    for (const { timeline } of this.pairs) {
      if (!failed) await this.checkObjects(timeline);
      await timeline.close();
      this.tally(timeline);
    }
    await this.env.layers.close();
  }
}

export type WorldCounts = World['counts'];

/** Rejects naming the seed and the step when the store differs from its twin. */
export async function runWorld(
  seed: number,
  steps: number,
  onStep: (step: number) => void = () => undefined,
): Promise<World['counts']> {
  const dir = await mkdtemp(join(tmpdir(), 'store-model-'));
  const world = new World(seed, dir, await openObjectStore(`file://${dir}/remote`));
  let step = 0;
  let failed = true;
  try {
    await world.begin();
    for (; step < steps; step++) {
      onStep(step);
      await world.step();
    }
    failed = false;
    return world.counts;
  } catch (cause) {
    throw new Error(`seed ${seed} fails at step ${step}: npm run model -- --seed ${seed} --steps ${step + 1}`, {
      cause,
    });
  } finally {
    await world.end(failed);
    await rm(dir, { recursive: true, force: true });
  }
}
