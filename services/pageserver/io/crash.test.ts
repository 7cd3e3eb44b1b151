/** The object store fails for good at every possible call: after a restart everything acknowledged as remote-consistent is there. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { internPrefix, makeKey } from '../core/key.js';
import type { Key } from '../core/key.js';
import { VALUE_IMAGE, VALUE_RECORD } from '../core/storage/store.js';
import { createStorageEnv } from './storage-env.js';
import type { StorageEnv } from './storage-env.js';
import {
  createBranch,
  createRootTimeline,
  listTimelines,
  loadTimeline,
  markTimelineDeleted,
  removeTimeline,
} from './tenant-storage.js';
import { FailingStore } from './testing/failing-store.js';
import { foldRedo } from './testing/fold-redo.js';
import { inlineJobs } from './testing/inline-jobs.js';
import { StoreModel } from './testing/store-model.js';
import type { Timeline } from './timeline.js';

const TENANT = parseTenantId('22'.repeat(16));
const ROOT = parseTimelineId('aa'.repeat(16));
const BRANCH = parseTimelineId('bb'.repeat(16));
const IMPORT_LSN = lsn(0x2000);
const keys: Key[] = [...Array(20).keys()].map((block) => makeKey(internPrefix(0, 1663, 5, 20000, 0), block));

function newEnv(objectStore: ObjectStore, dir: string): StorageEnv {
  return createStorageEnv({
    objectStore,
    workDir: join(dir, 'local'),
    log: silentLogger,
    reconstructPage: foldRedo,
    layerJobs: inlineJobs(foldRedo),
    readLiveSizes: async () => null,
    // No second attempt within the test: the first failure is the crash.
    limits: { compactionThreshold: 3, retryMinMs: 60_000, retryMaxMs: 60_000 },
  });
}

/** What a client was told. */
class Acknowledged {
  readonly timelines: Timeline[] = [];
  readonly models = new Map<string, StoreModel>();
  branchExists = false;
}

function writeBatch(timeline: Timeline, model: StoreModel, at: Lsn): void {
  keys.forEach((key, i) => {
    if (i % 2 === at % 2) return;
    const value = Buffer.from(`${timeline.ttid.timelineId} ${at} ${i}`);
    timeline.put(key, at, VALUE_RECORD, value);
    model.put(key, at, VALUE_RECORD, value);
  });
  timeline.advance(at, lsn(at - 8));
}

/** The life that gets interrupted. Ends with the first error. */
async function live(env: StorageEnv, told: Acknowledged): Promise<void> {
  const root = await createRootTimeline(env, { tenantId: TENANT, timelineId: ROOT }, { generation: 1, pgMajor: 15 });
  told.timelines.push(root);
  const model = new StoreModel();
  told.models.set(ROOT, model);
  for (const key of keys) {
    const image = new Uint8Array(8192).fill(key % 251);
    root.put(key, IMPORT_LSN, VALUE_IMAGE, image);
    model.put(key, IMPORT_LSN, VALUE_IMAGE, image);
  }
  const identity = { systemId: 7n, segSize: 1 << 24, pgMajor: 15 };
  await root.finishImport({ lsn: IMPORT_LSN, prevRecordLsn: lsn(IMPORT_LSN - 8), ...identity });
  let at: Lsn = IMPORT_LSN;
  const batch = async (timeline: Timeline, of: StoreModel) => {
    writeBatch(timeline, of, (at = lsn(at + 1001)));
    await timeline.checkpoint();
  };
  await batch(root, model);
  await batch(root, model);
  const branch = await createBranch(env, root, { timelineId: BRANCH, at, generation: 1 });
  told.timelines.push(branch);
  told.branchExists = true;
  const branchModel = new StoreModel({ model, lsn: at });
  told.models.set(BRANCH, branchModel);
  await batch(branch, branchModel);
  await batch(root, model);
  await root.compact();
  await batch(root, model);
  await batch(branch, branchModel);
  await root.compact({ forceMerge: true, forceImages: true });
  await root.compact({ forceMerge: true, forceImages: true });
  await root.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
  await branch.compact({ forceMerge: true });
  await branch.compact({ forceImages: true });
  await batch(root, model);
  await branch.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
  await batch(branch, branchModel);
}

async function check(env: StorageEnv, told: Acknowledged): Promise<void> {
  const acknowledged = new Map(told.timelines.map((t) => [t.ttid.timelineId as string, t.remoteConsistentLsn]));
  const loaded = new Map<string, Timeline>();
  for (const { timelineId, index } of await listTimelines(env.objectStore, TENANT, 1)) {
    const parent = index.ancestor === null ? null : (loaded.get(index.ancestor.timelineId) ?? null);
    loaded.set(timelineId, await loadTimeline(env, index, { generation: 1, parent }));
  }
  assert.ok(!told.branchExists || loaded.has(BRANCH), 'a branch that was acknowledged is gone');
  for (const [timelineId, at] of acknowledged) {
    if (at === 0) continue;
    const timeline = loaded.get(timelineId);
    assert.ok(timeline !== undefined && timeline.lastRecordLsn >= at, `${timelineId} lost acknowledged WAL`);
    for (const key of keys) {
      const wanted = told.models.get(timelineId)!.page(key, at)!;
      assert.deepEqual(
        Buffer.from((await timeline.getPage(key, at))!).subarray(0, 64),
        Buffer.from(wanted).subarray(0, 64),
      );
    }
  }
  for (const timeline of loaded.values()) await timeline.close();
}

/** Returns false when the life came to its end: there is no such call. */
async function crashAt(call: number, options: { afterEffect: boolean; wipeLocal: boolean }): Promise<boolean> {
  const dir = await mkdtemp(join(tmpdir(), 'store-crash-'));
  const remote = await openObjectStore(`file://${dir}/remote`);
  const failing = new FailingStore(remote);
  failing.failFrom = call;
  failing.failAfterEffect = options.afterEffect;
  const env = newEnv(failing, dir);
  const told = new Acknowledged();
  try {
    const failed = await live(env, told).then(
      () => false,
      (error: unknown) => error instanceof StorageError || Promise.reject(error),
    );
    for (const timeline of told.timelines) await timeline.close();
    await env.layers.close();
    if (options.wipeLocal) await rm(join(dir, 'local'), { recursive: true, force: true });
    const again = newEnv(remote, dir);
    await check(again, told);
    await again.layers.close();
    return failed || failing.callCount > call;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

describe('timeline under a failing object store', function () {
  this.timeout(300_000);
  for (const afterEffect of [false, true]) {
    it(`keeps what it acknowledged, the failing call having ${afterEffect ? 'taken' : 'no'} effect`, async () => {
      let call = 0;
      while (await crashAt(call, { afterEffect, wipeLocal: call % 2 === 0 })) call++;
      assert.ok(call >= 35, `only ${call} calls were tried`);
    });
  }

  it('finishes an interrupted deletion', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'store-delete-'));
    try {
      const remote = await openObjectStore(`file://${dir}/remote`);
      const failing = new FailingStore(remote);
      const env = newEnv(failing, dir);
      const told = new Acknowledged();
      await live(env, told);
      for (const timeline of told.timelines) await timeline.close();
      const [root, branch] = told.timelines.map((timeline) => timeline.ttid);
      const options = { generation: 1, nowMs: 1 };
      await assert.rejects(markTimelineDeleted(env, root!, options), /has a branch/);
      await markTimelineDeleted(env, branch!, options);
      failing.failFrom = failing.callCount + 1;
      await assert.rejects(removeTimeline(env, branch!), /injected/);
      failing.failFrom = Infinity;
      const half = (await listTimelines(remote, TENANT, 1)).find(({ timelineId }) => timelineId === BRANCH);
      assert.equal(half?.index.deletedAtMs, 1);
      await assert.rejects(loadTimeline(env, half.index, { generation: 1, parent: null }), /being deleted/);
      await removeTimeline(env, branch!);
      const left = await remote.list(`tenants/${TENANT}/`);
      assert.ok(left.length > 0 && left.every((key) => key.includes(ROOT)), left.join());
      await env.layers.close();
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
