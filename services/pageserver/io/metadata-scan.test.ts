/** Scans of metadata: right against a slow twin where histories fill many blocks, and cheap however long these are. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { internPrefix, keyOf, makeKey } from '../core/key.js';
import type { Key } from '../core/key.js';
import { isPageKey, METADATA_RANGE } from '../core/keyspace.js';
import { VALUE_IMAGE, VALUE_TOMBSTONE } from '../core/storage/store.js';
import { createStorageEnv } from './storage-env.js';
import type { StorageEnv, StorageLimits } from './storage-env.js';
import { createRootTimeline, loadIndex, loadTimeline } from './tenant-storage.js';
import { foldRedo } from './testing/fold-redo.js';
import { inlineJobs } from './testing/inline-jobs.js';
import { StoreModel } from './testing/store-model.js';
import type { Timeline } from './timeline.js';

const TTID = { tenantId: parseTenantId('31'.repeat(16)), timelineId: parseTimelineId('32'.repeat(16)) };
const START = 0x1000;
const PAGES = internPrefix(0, 1663, 5, 16384, 0);
const sizeKey = (rel: number): Key =>
  keyOf({ field1: 0x60, field2: 1663, field3: 5, field4: rel, field5: 0, field6: 0 });
const REL = 16384;

interface World {
  readonly timeline: Timeline;
  /** As after a restart, with nothing loaded. */
  reopen(): Promise<{ env: StorageEnv; timeline: Timeline }>;
}

async function withTimeline(limits: Partial<StorageLimits>, test: (world: World) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'metadata-'));
  const objectStore = await openObjectStore(`file://${dir}/remote`);
  const shared = { objectStore, workDir: join(dir, 'local'), log: silentLogger, reconstructPage: foldRedo };
  const layerJobs = inlineJobs(foldRedo);
  const newEnv = () => createStorageEnv({ ...shared, layerJobs, limits, readLiveSizes: async () => null });
  const envs = [newEnv()];
  const timelines = [await createRootTimeline(envs[0]!, TTID, { generation: 1, pgMajor: 15 })];
  const [timeline] = timelines;
  const reopen: World['reopen'] = async () => {
    await timelines.at(-1)!.close();
    const env = newEnv();
    envs.push(env);
    const { index } = (await loadIndex(objectStore, TTID, 1))!;
    timelines.push(await loadTimeline(env, index, { generation: 1, parent: null }));
    return { env, timeline: timelines.at(-1)! };
  };
  try {
    timeline!.put(makeKey(PAGES, 0), lsn(START), VALUE_IMAGE, new Uint8Array(8192));
    timeline!.put(sizeKey(1), lsn(START), VALUE_IMAGE, Uint8Array.of(1));
    const identity = { prevRecordLsn: lsn(START - 8), systemId: 1n, segSize: 1 << 24, pgMajor: 15 };
    await timeline!.finishImport({ lsn: lsn(START), ...identity });
    await test({ timeline: timeline!, reopen });
  } finally {
    for (const each of timelines) await each.close();
    for (const env of envs) await env.layers.close();
    await rm(dir, { recursive: true, force: true });
  }
}

function advance(timeline: Timeline, to: number): void {
  timeline.advance(lsn(to), lsn(to - 8));
}

/** A relation that grows: one version of its size a record, between two that do not change. */
async function grow(timeline: Timeline, versions: number): Promise<number> {
  let at = timeline.lastRecordLsn + 8;
  for (const rel of [REL - 1, REL + 1]) timeline.put(sizeKey(rel), lsn(at), VALUE_IMAGE, Uint8Array.of(9, 0, 0, 0));
  for (let n = 0; n < versions; n++) {
    at += 8;
    timeline.put(sizeKey(REL), lsn(at), VALUE_IMAGE, new Uint8Array(Uint32Array.of(n).buffer));
  }
  advance(timeline, at);
  await timeline.checkpoint();
  return at;
}

describe('scans of metadata', function () {
  this.timeout(120_000);

  it('equal a slow twin at any LSN and for any range', () =>
    withTimeline({ blockCacheBytes: 100_000 }, async ({ timeline, reopen }) => {
      let state = 7;
      const random = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 0x1_0000_0000) * below);
      };
      const model = new StoreModel();
      model.put(sizeKey(1), lsn(START), VALUE_IMAGE, Uint8Array.of(1));
      let at = START;
      for (let layer = 0; layer < 3; layer++) {
        for (let n = 0; n < 500; n++) {
          // Now and then several versions at one LSN: the last counts.
          if (random(4) > 0) at += 8;
          const key = sizeKey(random(3) === 0 ? 1 + random(8) : 3);
          const isGone = random(12) === 0;
          const value = isGone ? new Uint8Array(0) : new Uint8Array(random(3000)).fill(n);
          for (const target of [timeline, model]) {
            target.put(key, lsn(at + 8), isGone ? VALUE_TOMBSTONE : VALUE_IMAGE, value);
          }
        }
        at += 8;
        advance(timeline, at);
        await timeline.checkpoint();
      }
      const { timeline: cold } = await reopen();
      for (let n = 0; n < 400; n++) {
        const when = lsn(START + random(at - START + 1));
        const [start, end] = [sizeKey(random(10)), sizeKey(3 + random(8))];
        const found = await cold.scan(start, end, when);
        const plain = found.map(({ key, value }) => [key, Buffer.from(value)]);
        const wanted = model.scan(start, end, when).map(({ key, value }) => [key, Buffer.from(value)]);
        assert.deepEqual(plain, wanted, `scan ${n}`);
      }
    }));

  it('read a few blocks of a history of many', () =>
    withTimeline({}, async ({ timeline, reopen }) => {
      const end = await grow(timeline, 100_000);
      for (const at of [end, end - 8 * 50_000]) {
        const { env, timeline: cold } = await reopen();
        const found = await cold.scan(METADATA_RANGE.start, METADATA_RANGE.end, lsn(at));
        const sizes = new Map(found.map(({ key, value }) => [key, Buffer.from(value).readUIntLE(0, value.length)]));
        assert.equal(sizes.get(sizeKey(REL)), 99_999 - (end - at) / 8);
        assert.deepEqual([sizes.get(sizeKey(REL - 1)), sizes.get(sizeKey(REL + 1)), sizes.size], [9, 9, 4]);
        // Of the image at the import and of the layer with the history, which has some twenty.
        assert.ok(env.layers.blockReadCount <= 4, `${env.layers.blockReadCount} blocks read`);
      }
    }));
});

describe('layers that were compacted', function () {
  this.timeout(120_000);

  it('hold pages or metadata', () =>
    withTimeline({ compactionThreshold: 1000, imageCreationThreshold: 1000 }, async ({ timeline }) => {
      for (let round = 1; round <= 4; round++) {
        const at = lsn(timeline.lastRecordLsn + 8);
        for (let block = 0; block < 10; block++)
          timeline.put(makeKey(PAGES, block), at, VALUE_IMAGE, new Uint8Array(0));
        await grow(timeline, 100);
      }
      await timeline.compact({ forceMerge: true });
      await timeline.compact({ forceImages: true });
      const made = timeline.layers.layers.filter((layer) => layer.lsnEnd > START + 1);
      assert.deepEqual(made.map(({ kind }) => kind).sort(), ['delta', 'delta', 'image', 'image']);
      for (const { name, keyStart, keyEnd } of made) {
        assert.ok(!isPageKey(keyStart) || isPageKey(keyEnd) || keyEnd === METADATA_RANGE.start, name);
      }
    }));

  it('have a bounded number of blocks, however well these compress', () =>
    withTimeline({ layerTargetBlocks: 4, compactionThreshold: 1000, imageCreationThreshold: 1000 }, async (world) => {
      const { timeline } = world;
      const at = timeline.lastRecordLsn + 8;
      for (let block = 0; block < 100; block++) {
        timeline.put(makeKey(PAGES, block), lsn(at), VALUE_IMAGE, new Uint8Array(8192).fill(1));
      }
      advance(timeline, at);
      await timeline.checkpoint();
      await timeline.compact({ forceMerge: true });
      await timeline.compact({ forceImages: true });
      for (const wanted of ['delta', 'image']) {
        const made = timeline.layers.layers.filter(({ kind, lsnEnd }) => kind === wanted && lsnEnd > START + 1);
        assert.ok(made.length >= 5, `${made.length} layers for 25 blocks`);
      }
      for (let block = 0; block < 100; block++) {
        assert.equal((await timeline.getPage(makeKey(PAGES, block), lsn(at)))?.[0], 1);
      }
    }));
});
