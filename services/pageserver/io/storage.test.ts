/** Single behaviours of the store that random histories do not pin down. */
import { strict as assert } from 'node:assert';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { internPrefix, keyOf, makeKey } from '../core/key.js';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_TOMBSTONE } from '../core/storage/store.js';
import { createStorageEnv } from './storage-env.js';
import type { ReconstructPage, StorageEnv, StorageLimits } from './storage-env.js';
import { createBranch, createRootTimeline, listTimelines, loadTimeline } from './tenant-storage.js';
import { FailingStore } from './testing/failing-store.js';
import { foldPage, foldRedo } from './testing/fold-redo.js';
import type { Timeline } from './timeline.js';
import { timelineDir } from './local-dirs.js';

const TTID = { tenantId: parseTenantId('33'.repeat(16)), timelineId: parseTimelineId('44'.repeat(16)) };
const CHILD = parseTimelineId('55'.repeat(16));
const START = lsn(0x1_0000_0000);
const IDENTITY = { prevRecordLsn: lsn(0x0_ffff_ff00), systemId: 99n, segSize: 1 << 24, pgMajor: 15 };
const PREFIX = internPrefix(0, 1663, 5, 30000, 0);
const META = keyOf({ field1: 0x60, field2: 1663, field3: 5, field4: 30000, field5: 0, field6: 0 });
const IMAGE = new Uint8Array(8192).fill(1);
const page = (block: number) => makeKey(PREFIX, block);
const at = (offset: number) => lsn(START + offset);

class Fixture {
  readonly dir: string;
  readonly store: FailingStore;
  env: StorageEnv;
  readonly timelines: Timeline[] = [];
  private readonly limits: Partial<StorageLimits>;

  constructor(dir: string, store: FailingStore, limits: Partial<StorageLimits>) {
    this.dir = dir;
    this.store = store;
    this.limits = { retryMinMs: 5, retryMaxMs: 5, ...limits };
    this.env = this.newEnv();
  }

  newEnv(): StorageEnv {
    const workDir = join(this.dir, 'local');
    const shared = { objectStore: this.store, log: silentLogger, reconstructPage: foldRedo };
    return createStorageEnv({ ...shared, workDir, limits: this.limits });
  }

  /** A root timeline with pages 0..9 and one metadata key at START. */
  async root(): Promise<Timeline> {
    const timeline = await createRootTimeline(this.env, TTID, { generation: 1, pgMajor: 15 });
    for (let block = 0; block < 10; block++) timeline.put(page(block), START, VALUE_IMAGE, IMAGE);
    timeline.put(META, START, VALUE_IMAGE, Uint8Array.of(10));
    await timeline.finishImport({ lsn: START, ...IDENTITY });
    this.timelines.push(timeline);
    return timeline;
  }

  async reload(): Promise<Timeline[]> {
    await this.close();
    this.env = this.newEnv();
    for (const { index } of await listTimelines(this.store, TTID.tenantId, 1)) {
      const parent = this.timelines.find((t) => t.ttid.timelineId === index.ancestor?.timelineId) ?? null;
      this.timelines.push(await loadTimeline(this.env, index, { generation: 1, parent }));
    }
    return this.timelines;
  }

  async close(): Promise<void> {
    for (const timeline of this.timelines.splice(0)) await timeline.close();
    await this.env.layers.close();
  }
}

async function withFixture(limits: Partial<StorageLimits>, test: (f: Fixture) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'store-'));
  const store = new FailingStore(await openObjectStore(`file://${dir}/remote`));
  const fixture = new Fixture(dir, store, limits);
  try {
    await test(fixture);
  } finally {
    await fixture.close();
    await rm(dir, { recursive: true, force: true });
  }
}

function record(timeline: Timeline, block: number, lsnAt: Lsn, text = `r${lsnAt}`): Uint8Array {
  const value = Buffer.from(text);
  timeline.put(page(block), lsnAt, VALUE_RECORD, value);
  timeline.advance(lsnAt, lsn(lsnAt - 8));
  return value;
}

describe('timeline storage', () => {
  it('imports, and is found again with its identity by the object store alone', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      assert.equal(root.remoteConsistentLsn, START);
      assert.ok((await readdir(timelineDir(f.env, TTID))).length === 1);
      await rm(join(f.dir, 'local'), { recursive: true });
      const [again] = await f.reload();
      const { systemId, segSize, pgMajor, prevRecordLsn } = again!;
      assert.deepEqual({ systemId, segSize, pgMajor, prevRecordLsn }, IDENTITY);
      assert.equal(again!.initdbLsn, START);
      assert.deepEqual(await again!.getPage(page(3), START), IMAGE);
      await assert.rejects(again!.getPage(page(3), lsn(START - 1)), /0\/FFFFFFFF is below the GC cutoff 1\/0$/);
      assert.equal(await again!.getPage(page(10), START), null);
      assert.deepEqual(await again!.get(META, START), Uint8Array.of(10));
    }));

  it('does not exist before its import is finished', () =>
    withFixture({}, async (f) => {
      const timeline = await createRootTimeline(f.env, TTID, { generation: 1, pgMajor: 15 });
      timeline.put(META, START, VALUE_IMAGE, Uint8Array.of(1));
      await assert.rejects(timeline.checkpoint(), { kind: 'precondition' });
      await timeline.close();
      assert.deepEqual(await listTimelines(f.store, TTID.tenantId, 1), []);
      await f.root();
      await assert.rejects(createRootTimeline(f.env, TTID, { generation: 1, pgMajor: 15 }), { kind: 'already-exists' });
    }));

  it('applies two versions at one LSN in the order of their puts, also from files', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      root.put(page(1), at(8), VALUE_RECORD, Buffer.from('first'));
      root.put(page(1), at(8), VALUE_RECORD, Buffer.from('second'));
      root.put(META, at(8), VALUE_IMAGE, Uint8Array.of(1));
      root.put(META, at(8), VALUE_IMAGE, Uint8Array.of(2));
      root.advance(at(8), at(0));
      const first = foldPage(IMAGE, at(8), Buffer.from('first'));
      const wanted = foldPage(first, at(8), Buffer.from('second'));
      assert.deepEqual(await root.getPage(page(1), at(8)), wanted);
      await root.checkpoint();
      const [again] = await f.reload();
      assert.deepEqual(await again!.getPage(page(1), at(8)), wanted);
      assert.deepEqual(await again!.get(META, at(8)), Uint8Array.of(2));
      assert.deepEqual((await again!.scan(META, page2(META), at(8))).length, 1);
    }));

  it('answers at once what is in memory, and undefined what must be read', () =>
    withFixture({}, async (f) => {
      await f.root();
      const [root] = await f.reload();
      assert.equal(root!.tryGetPage(page(1), START), undefined);
      assert.equal(root!.tryGet(META, START), undefined);
      const found = await root!.getPage(page(1), START);
      assert.equal(root!.tryGetPage(page(1), START), found, 'the cached page itself');
      const value = record(root!, 1, at(8));
      const next = root!.tryGetPage(page(1), at(8));
      assert.deepEqual(next, foldPage(IMAGE, at(8), value));
      root!.advance(at(800), at(792));
      assert.equal(root!.tryGetPage(page(1), at(800)), next, 'no newer version: the same page');
      assert.equal(root!.tryGetPage(page(1), at(7)), found, 'the older one is still there');
    }));

  it('does not cache what an unfinished batch may still change', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      await root.getPage(page(1), START);
      root.put(page(1), at(8), VALUE_RECORD, Buffer.from('a'));
      const a = foldPage(IMAGE, at(8), Buffer.from('a'));
      assert.deepEqual(await root.getPage(page(1), at(100)), a);
      root.put(page(1), at(16), VALUE_RECORD, Buffer.from('b'));
      assert.deepEqual(await root.getPage(page(1), at(100)), foldPage(a, at(16), Buffer.from('b')));
      root.discardUnfinished();
      assert.deepEqual(await root.getPage(page(1), at(100)), IMAGE);
      record(root, 1, at(24), 'c');
      assert.deepEqual(await root.getPage(page(1), at(100)), foldPage(IMAGE, at(24), Buffer.from('c')));
    }));

  it('puts an image behind a long chain of records at flush', () =>
    withFixture({ imageAfterRecords: 5 }, async (f) => {
      const root = await f.root();
      await root.getPage(page(1), START);
      let wanted: Uint8Array = IMAGE;
      for (let i = 1; i <= 20; i++) wanted = foldPage(wanted, at(i * 8), record(root, 1, at(i * 8)));
      for (let i = 21; i <= 24; i++) record(root, 2, at(i * 8));
      await root.checkpoint();
      assert.equal((await root.getPage(page(1), at(20 * 8)))!.length, 8192);
      const [again] = await f.reload();
      let applied = 0;
      const env = { ...f.env, reconstructPage: counting((count) => (applied += count)) };
      const counted = await loadTimeline(env, again!.index, { generation: 1, parent: null });
      f.timelines.push(counted);
      assert.deepEqual(await counted.getPage(page(1), at(24 * 8)), wanted);
      assert.equal(applied, 0);
      await counted.getPage(page(1), at(19 * 8));
      assert.equal(applied, 19, 'history is as before');
      await counted.getPage(page(2), at(24 * 8));
      assert.equal(applied, 19 + 4);
    }));

  it('flushes a layer that is frozen in the very moment in which the queue runs dry', () =>
    withFixture({ frozenLayersMax: 1 }, async (f) => {
      const root = await f.root();
      for (let i = 1; i <= 20; i++) {
        record(root, 1, at(i * 8));
        root.requestFreeze();
        await root.waitForRoom();
      }
      while (root.remoteConsistentLsn < at(160)) await new Promise((resolve) => setTimeout(resolve, 5));
    }));

  it('does not take a page for final that changed while its layers were read', () =>
    withFixture({}, async (f) => {
      await f.root();
      const [root] = await f.reload();
      const reading = root!.getPage(page(1), at(100));
      const value = record(root!, 1, at(8));
      root!.advance(at(100), at(8));
      assert.deepEqual(await reading, IMAGE);
      assert.deepEqual(await root!.getPage(page(1), at(100)), foldPage(IMAGE, at(8), value));
    }));

  it('wakes readers when their LSN is there, and tells them why not', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      await root.waitLsn(START, 0);
      const woken = root.waitLsn(at(8), 10_000);
      const late = root.waitLsn(at(1000), 10_000);
      await assert.rejects(root.waitLsn(at(16), 5), { kind: 'unavailable' });
      const abort = new AbortController();
      const gone = root.waitLsn(at(16), 10_000, abort.signal);
      abort.abort();
      await assert.rejects(gone, { kind: 'cancelled' });
      root.advance(at(8), at(0));
      await woken;
      assert.equal(root.waitingReaders, 1);
      await Promise.all([assert.rejects(late, { kind: 'cancelled' }), root.close()]);
    }));

  it('freezes by memory and by WAL distance, never inside a batch', () =>
    withFixture({ memoryLayerBytesMax: 3 << 20, checkpointDistanceBytes: 1 << 20 }, async (f) => {
      const root = await f.root();
      root.advance(at(1 << 20), at(8));
      await root.checkpoint();
      assert.equal(root.remoteConsistentLsn, at(1 << 20));
      assert.equal(root.layers.layers.length, 1, 'no versions, no file');
      let end = at((1 << 20) + 8);
      for (let i = 0; i < 400; i++) root.put(page(i), end, VALUE_IMAGE, IMAGE);
      const flushed = root.checkpoint();
      assert.equal(await flushed, at(1 << 20));
      assert.equal(root.memoryLayers.length, 1, 'the batch is not finished');
      root.advance(end, at(8));
      assert.equal(root.memoryLayers.length, 2);
      await root.checkpoint();
      assert.equal(root.remoteConsistentLsn, end);
      root.put(page(1), (end = lsn(end + 8)), VALUE_IMAGE, IMAGE);
      const waiting = root.checkpoint();
      root.advance(end, lsn(end - 8));
      await waiting;
      assert.equal(await root.checkpoint(), end);
      record(root, 1, (end = lsn(end + 8)));
      root.put(page(1), lsn(end + 8), VALUE_RECORD, IMAGE);
      const undecided = root.checkpoint();
      root.discardUnfinished();
      assert.equal(await undecided, end);
    }));

  it('freezes by age', () =>
    withFixture({ checkpointTimeoutMs: 20 }, async (f) => {
      const root = await f.root();
      record(root, 1, at(8));
      while (root.remoteConsistentLsn < at(8)) await new Promise((resolve) => setTimeout(resolve, 10));
    }));

  it('flushes the largest open layer when all together use too much memory', () =>
    withFixture({ memoryBytesMax: 24 << 20 }, async (f) => {
      const root = await f.root();
      const child = await createBranch(f.env, root, { timelineId: CHILD, at: START, generation: 1 });
      f.timelines.push(child);
      let end = START;
      const write = (timeline: Timeline, count: number) => {
        for (let i = 0; i < count; i++) timeline.put(page(i), (end = lsn(end + 8)), VALUE_IMAGE, IMAGE);
        timeline.advance(end, lsn(end - 8));
      };
      write(root, 1800);
      assert.equal(root.memoryLayers.length, 1);
      write(child, 900);
      write(child, 900);
      assert.deepEqual([root.memoryLayers.length, child.memoryLayers.length], [2, 1]);
      await root.checkpoint();
      assert.ok(f.env.memory.usedBytes < 24 << 20);
    }));

  it('holds ingest back while uploads fail, then catches up', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      f.store.failFrom = 0;
      record(root, 1, at(8));
      await assert.rejects(root.checkpoint(), /injected/);
      record(root, 1, at(16));
      await assert.rejects(root.checkpoint(), /injected/);
      let room = false;
      const waiting = root.waitForRoom().then(() => (room = true));
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.equal(room, false);
      assert.equal(root.remoteConsistentLsn, START);
      assert.ok(root.backgroundFailureCount > 1);
      f.store.failFrom = Infinity;
      await waiting;
      assert.equal(await root.checkpoint(), at(16));
    }));
});

function page2(key: number): ReturnType<typeof page> {
  return (key + 1) as ReturnType<typeof page>;
}

function counting(note: (count: number) => void): ReconstructPage {
  return (base, records) => {
    note(records.length);
    return foldRedo(base, records);
  };
}

describe('branches', () => {
  it('see the ancestor up to their LSN and nothing of it after', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      const before = record(root, 1, at(8));
      const child = await createBranch(f.env, root, { timelineId: CHILD, at: at(8), generation: 1 });
      f.timelines.push(child);
      assert.equal(child.lastRecordLsn, at(8));
      assert.equal(child.prevRecordLsn, at(0));
      assert.deepEqual([child.minReadableLsn, child.initdbLsn], [START, START]);
      record(root, 1, at(16));
      root.put(META, at(24), VALUE_TOMBSTONE, new Uint8Array(0));
      root.advance(at(24), at(16));
      const wanted = foldPage(IMAGE, at(8), before);
      assert.deepEqual(await child.getPage(page(1), at(8)), wanted);
      const own = record(child, 1, at(16), 'own');
      assert.deepEqual(await child.getPage(page(1), at(16)), foldPage(wanted, at(16), own));
      assert.deepEqual(await child.get(META, at(16)), Uint8Array.of(10));
      assert.equal(await root.get(META, at(24)), null);
      assert.deepEqual(await root.scan(META, page2(META), at(24)), []);
      assert.equal((await child.scan(META, page2(META), at(16))).length, 1);
      const middle = await createBranch(f.env, root, { timelineId: TTID2, at: at(12), generation: 1 });
      assert.equal(middle.prevRecordLsn, 0, 'not the end of the last record');
      await middle.close();
    }));

  it('wait for an ancestor that lost its unflushed tail in a restart', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      const value = record(root, 1, at(8));
      f.timelines.push(await createBranch(f.env, root, { timelineId: CHILD, at: at(8), generation: 1 }));
      const [rootAgain, childAgain] = await f.reload();
      assert.equal(rootAgain!.lastRecordLsn, START);
      assert.equal(childAgain!.lastRecordLsn, at(8));
      assert.equal(childAgain!.tryGetPage(page(1), at(8)), undefined);
      const reading = childAgain!.getPage(page(1), at(8));
      record(rootAgain!, 1, at(8));
      assert.deepEqual(await reading, foldPage(IMAGE, at(8), value));
    }));

  it('are refused where the ancestor has no history', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      const make = (lsnAt: Lsn) => createBranch(f.env, root, { timelineId: CHILD, at: lsnAt, generation: 1 });
      await assert.rejects(make(lsn(START - 8)), /1\/0/);
      await assert.rejects(make(at(8)), { kind: 'precondition' });
      assert.equal((await listTimelines(f.store, TTID.tenantId, 1)).length, 1);
    }));
});

const TTID2 = parseTimelineId('66'.repeat(16));

describe('local files', () => {
  it('are fetched again when they are damaged, gone or unknown', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      const value = record(root, 1, at(8));
      await root.checkpoint();
      const dir = timelineDir(f.env, TTID);
      const names = await readdir(dir);
      assert.equal(names.length, 2);
      await f.close();
      for (const name of names) {
        const file = await open(join(dir, name), 'r+');
        await file.write(Buffer.from([0xff, 0xff, 0xff]), 0, 3, 75);
        await file.close();
      }
      await writeFile(join(dir, 'unknown'), 'x');
      const [again] = await f.reload();
      assert.deepEqual((await readdir(dir)).sort(), names.sort());
      assert.deepEqual(await again!.getPage(page(1), at(8)), foldPage(IMAGE, at(8), value));
      assert.equal(f.env.layers.downloadCount, 2);
    }));

  it('give `corrupt` when the object is damaged too', () =>
    withFixture({}, async (f) => {
      await f.root();
      const [key] = (await f.store.list('tenants/')).filter((name) => !name.includes('index_part'));
      const bytes = Uint8Array.from(await f.store.get(key!));
      bytes[80]! ^= 1;
      await f.store.put(key!, bytes);
      await rm(join(f.dir, 'local'), { recursive: true });
      const [again] = await f.reload();
      await assert.rejects(again!.getPage(page(1), START), { kind: 'corrupt' });
    }));
});

describe('eviction', () => {
  it('keeps local files within the limit, never the only copy, and fetches once for all readers', () =>
    withFixture({ localLayerBytesMax: 1 }, async (f) => {
      const root = await f.root();
      const value = record(root, 1, at(8));
      f.store.failFrom = f.store.callCount;
      await assert.rejects(root.checkpoint(), /injected/);
      assert.ok(f.env.layers.local.usedBytes > 1, 'the flushed layer is nowhere else');
      f.store.failFrom = Infinity;
      while (root.remoteConsistentLsn < at(8)) await new Promise((resolve) => setTimeout(resolve, 5));
      await f.env.layers.whenEvicted();
      assert.deepEqual(await readdir(timelineDir(f.env, TTID)), []);
      const [again] = await f.reload();
      const wanted = foldPage(IMAGE, at(8), value);
      const pages = await Promise.all([1, 2, 3].map(() => again!.getPage(page(1), at(8))));
      for (const found of pages) assert.deepEqual(found, wanted);
      // Index and block of each layer: at most one download each, since nothing else is there to share.
      assert.ok(f.env.layers.downloadCount >= 2 && f.env.layers.downloadCount <= 4, `${f.env.layers.downloadCount}`);
      await f.env.layers.whenEvicted();
      assert.ok(f.env.layers.evictionCount >= f.env.layers.downloadCount - 1);
    }));
});

describe('history', () => {
  it('of a branch ends where that of its ancestor does, but never above the branch point', () =>
    withFixture({}, async (f) => {
      const root = await f.root();
      record(root, 1, at(8));
      const value = record(root, 1, at(16));
      const child = await createBranch(f.env, root, { timelineId: CHILD, at: at(16), generation: 1 });
      f.timelines.push(child);
      record(root, 1, at(24));
      await root.checkpoint();
      const release = child.history.hold(at(8));
      const collect = async () => (await root.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 })).cutoff;
      assert.equal(await collect(), at(8), 'a hold on the branch below its branch point holds the ancestor');
      release();
      assert.equal(await collect(), at(24));
      assert.equal(child.minReadableLsn, at(16));
      await assert.rejects(child.getPage(page(1), at(15)), { kind: 'invalid' });
      const before = foldPage(IMAGE, at(8), Buffer.from(`r${at(8)}`));
      assert.deepEqual(await child.getPage(page(1), at(16)), foldPage(before, at(16), value));
      const make = (lsnAt: Lsn) => createBranch(f.env, root, { timelineId: TTID2, at: lsnAt, generation: 1 });
      await assert.rejects(make(at(16)), /requested LSN 1\/10 is below the GC cutoff 1\/18/);
      const [rootAgain, childAgain] = await f.reload();
      assert.deepEqual([rootAgain!.minReadableLsn, childAgain!.minReadableLsn], [at(24), at(16)]);
    }));

  it('is refused to a read that a collection overtakes', () =>
    withFixture({}, async (f) => {
      await f.root();
      const [root] = await f.reload();
      record(root!, 1, at(8));
      await root!.checkpoint();
      const reads = [root!.getPage(page(1), START), root!.get(META, START), root!.scan(META, page2(META), START)];
      const refused = Promise.all(reads.map((read) => assert.rejects(read, { kind: 'invalid' })));
      await root!.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
      await refused;
      assert.throws(() => root!.tryGetPage(page(1), START), { kind: 'invalid' });
      assert.throws(() => root!.tryGet(META, START), { kind: 'invalid' });
    }));
});

describe('compaction', () => {
  it('merges in a worker thread, splits by size, and readers go on', () =>
    withFixture({ compactionThreshold: 4, layerTargetBytes: 100_000 }, async (f) => {
      const root = await f.root();
      const noise = (seed: number) =>
        Buffer.from(createHash('shake256', { outputLength: 2000 }).update(`${seed}`).digest());
      const wanted = new Map<number, Uint8Array>();
      for (let round = 1; round <= 4; round++) {
        for (let block = 0; block < 100; block++) {
          const value = noise(round * 1000 + block);
          root.put(page(block), at(round * 1000), VALUE_RECORD, value);
          const base = wanted.get(block) ?? (block < 10 ? IMAGE : null);
          wanted.set(block, foldPage(base, at(round * 1000), value));
        }
        root.advance(at(round * 1000), at(round * 1000 - 8));
        await root.checkpoint();
      }
      while (root.compactionCount === 0) {
        assert.equal(root.backgroundFailureCount, 0);
        await root.compact();
      }
      const deltas = root.layers.layers.filter((layer) => layer.kind === 'delta');
      assert.ok(deltas.length >= 4, `${deltas.length} layers`);
      assert.equal(root.layers.level0().length, 0);
      assert.equal((await f.store.list('tenants/')).length, deltas.length + 2, 'old objects are gone');
      const [again] = await f.reload();
      assert.equal((await readdir(timelineDir(f.env, TTID))).length, deltas.length + 1);
      for (const [block, expected] of wanted) assert.deepEqual(await again!.getPage(page(block), at(4000)), expected);
    }));
});
