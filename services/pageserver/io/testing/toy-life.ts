/**
 * A short life of a tenant with one branch, that does everything which changes objects: import, flushes, a branch, merges, images,
 * garbage collection. For tests that break it off somewhere.
 */
import { strict as assert } from 'node:assert';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { internPrefix, makeKey } from '../../core/key.js';
import type { Key } from '../../core/key.js';
import { VALUE_IMAGE, VALUE_RECORD } from '../../core/storage/store.js';
import { removeUnknownDirs } from '../local-dirs.js';
import { createStorageEnv } from '../storage-env.js';
import type { StorageEnv } from '../storage-env.js';
import { createBranch, createRootTimeline, listTimelines, loadTimeline } from '../tenant-storage.js';
import type { Timeline } from '../timeline.js';
import { foldRedo } from './fold-redo.js';
import { inlineJobs } from './inline-jobs.js';
import { StoreModel } from './store-model.js';

export const TENANT = parseTenantId('22'.repeat(16));
export const ROOT = parseTimelineId('aa'.repeat(16));
export const BRANCH = parseTimelineId('bb'.repeat(16));
export const IMPORT_LSN = lsn(0x2000);
export const keys: Key[] = [...Array(20).keys()].map((block) => makeKey(internPrefix(0, 1663, 5, 20000, 0), block));

/** Of one process. Nothing is tried again within a test: the first failure counts. */
export function toyEnv(objectStore: ObjectStore, workDir: string): StorageEnv {
  return createStorageEnv({
    objectStore,
    workDir,
    log: silentLogger,
    reconstructPage: foldRedo,
    layerJobs: inlineJobs(foldRedo),
    readLiveSizes: async () => null,
    limits: { compactionThreshold: 3, retryMinMs: 60_000, retryMaxMs: 60_000 },
  });
}

/** What a client was told. */
export class Acknowledged {
  readonly timelines: Timeline[] = [];
  readonly models = new Map<string, StoreModel>();
  branchExists = false;

  /** By timeline: where it was said to be remote-consistent. */
  positions(): Map<string, Lsn> {
    return new Map(this.timelines.map((t) => [t.ttid.timelineId, t.remoteConsistentLsn]));
  }
}

export function writeBatch(timeline: Timeline, model: StoreModel, at: Lsn): void {
  keys.forEach((key, i) => {
    if (i % 2 === at % 2) return;
    const value = Buffer.from(`${timeline.ttid.timelineId} ${at} ${i}`);
    timeline.put(key, at, VALUE_RECORD, value);
    model.put(key, at, VALUE_RECORD, value);
  });
  timeline.advance(at, lsn(at - 8));
}

/** The life that gets interrupted. Ends with the first error. */
export async function live(env: StorageEnv, told: Acknowledged, generation = 1): Promise<void> {
  const root = await createRootTimeline(env, { tenantId: TENANT, timelineId: ROOT }, { generation, pgMajor: 15 });
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
  const branch = await createBranch(env, root, { timelineId: BRANCH, at, generation });
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

/** Loads all timelines under `generation`. */
export async function loadAll(env: StorageEnv, generation: number): Promise<Map<string, Timeline>> {
  const loaded = new Map<string, Timeline>();
  for (const { timelineId, index } of await listTimelines(env.objectStore, TENANT, generation)) {
    const parent = index.ancestor === null ? null : (loaded.get(index.ancestor.timelineId) ?? null);
    loaded.set(timelineId, await loadTimeline(env, index, { generation, parent }));
  }
  await removeUnknownDirs(env, TENANT, (timelineId) => loaded.has(timelineId));
  return loaded;
}

/** Every key of a timeline at an LSN is what the model says. */
export async function checkPages(timeline: Timeline, model: StoreModel, at: Lsn): Promise<void> {
  for (const key of keys) {
    const page = Buffer.from((await timeline.getPage(key, at))!).subarray(0, 64);
    assert.deepEqual(page, Buffer.from(model.page(key, at)!).subarray(0, 64));
  }
}

/** What is acknowledged is there, at least up to where it was said to be remote-consistent. */
export async function checkAcknowledged(
  loaded: ReadonlyMap<string, Timeline>,
  told: Acknowledged,
  acknowledged: ReadonlyMap<string, Lsn>,
): Promise<void> {
  assert.ok(!told.branchExists || loaded.has(BRANCH), 'a branch that was acknowledged is gone');
  for (const [timelineId, at] of acknowledged) {
    if (at === 0) continue;
    const timeline = loaded.get(timelineId);
    assert.ok(timeline !== undefined && timeline.lastRecordLsn >= at, `${timelineId} lost acknowledged WAL`);
    await checkPages(timeline, told.models.get(timelineId)!, at);
  }
}
