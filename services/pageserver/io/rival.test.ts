/**
 * Two page servers believe to have a tenant. At every object operation of the one, the other attaches: what was acknowledged to
 * safekeepers is there, and nothing that the newer one needs is ever deleted or overwritten, whatever the older goes on to do.
 */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { createBucket } from '#shared/io/testing/s3-checks.js';
import { useCredentials } from '#shared/io/testing/s3-credentials.js';
import { S3Fake } from '#shared/io/testing/s3-fake.js';
import { LONG, long } from '#shared/testing/long.js';
import { checkNewest, claimGeneration } from '../tenant/generations.js';
import { layerKey } from './object-keys.js';
import { TenantGate } from './tenant-gate.js';
import { FailingStore } from './testing/failing-store.js';
import {
  Acknowledged,
  checkAcknowledged,
  checkPages,
  live,
  loadAll,
  TENANT,
  toyEnv,
  writeBatch,
} from './testing/toy-life.js';
import type { StoreModel } from './testing/store-model.js';
import type { Timeline } from './timeline.js';

async function claim(store: ObjectStore, nodeId: number): Promise<number> {
  return claimGeneration(store, { tenantId: TENANT, nodeId, wanted: 0, above: 0, nowMs: 0 });
}

function gate(raw: ObjectStore, through: ObjectStore, generation: number, asks = true): TenantGate {
  const validate = async () => (asks ? checkNewest(raw, { tenantId: TENANT, generation }) : undefined);
  return new TenantGate(through, { tenantId: TENANT, generation, validate, onFenced: () => undefined }, 'single');
}

/** Everything that an index in use names is there, whole. */
async function checkObjects(store: ObjectStore, loaded: Iterable<Timeline>): Promise<void> {
  for (const timeline of loaded) {
    for (const [name, { sizeBytes }] of timeline.index.layers) {
      const found = await store.head(layerKey(timeline.ttid, name));
      assert.deepEqual(found, { sizeBytes }, `layer ${name} of ${timeline.ttid.timelineId}`);
    }
  }
}

/** Whatever a server does that has not noticed yet. Failures of the right kind are fine. */
async function goOn(told: Acknowledged): Promise<void> {
  for (const timeline of told.timelines) {
    const acts = [
      () => timeline.compact({ forceMerge: true, forceImages: true }),
      () => timeline.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 }),
      () => timeline.checkpoint(),
    ];
    for (const act of acts) {
      await act().catch((error: unknown) =>
        assert.ok(['fenced', 'precondition'].includes(errorKind(error)), String(error)),
      );
    }
  }
}

/** The newer one lives on: it writes, merges, collects. */
async function useAll(loaded: ReadonlyMap<string, Timeline>, models: ReadonlyMap<string, StoreModel>): Promise<void> {
  for (const [timelineId, timeline] of loaded) {
    const model = models.get(timelineId);
    // A branch that came to be, though its maker was told that it could not be made.
    if (model === undefined) continue;
    // Versions above what it has were never there for it.
    model.discardAbove(timeline.lastRecordLsn);
    writeBatch(timeline, model, lsn(timeline.lastRecordLsn + 501));
    await timeline.checkpoint();
    await timeline.compact({ forceMerge: true, forceImages: true });
    await timeline.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
  }
}

interface Case {
  readonly raw: ObjectStore;
  readonly dir: string;
  readonly call: number;
  readonly afterEffect: boolean;
  /** Whether the older one asks if it still has the tenant. */
  readonly asks?: boolean;
}

/** Returns false when the life came to its end before the rival did. */
async function rivalAt({ raw, dir, call, afterEffect, asks = true }: Case): Promise<boolean> {
  const failing = new FailingStore(raw);
  const first = await claim(raw, 1);
  const env = toyEnv(gate(raw, failing, first, asks), join(dir, 'one'));
  const told = new Acknowledged();
  let rival: { loaded: Map<string, Timeline>; acknowledged: Map<string, Lsn>; close: () => Promise<void> } | null =
    null;
  failing.interrupt = {
    call,
    afterEffect,
    act: async () => {
      const acknowledged = told.positions();
      const generation = await claim(raw, 2);
      const rivalEnv = toyEnv(gate(raw, raw, generation), join(dir, 'two'));
      const loaded = await loadAll(rivalEnv, generation);
      rival = { loaded, acknowledged, close: () => rivalEnv.layers.close() };
    },
  };
  await live(env, told, first).catch((error: unknown) => assert.ok(error instanceof StorageError, String(error)));
  const found = rival as {
    loaded: Map<string, Timeline>;
    acknowledged: Map<string, Lsn>;
    close: () => Promise<void>;
  } | null;
  if (found !== null) {
    await goOn(told);
    // What the older one has told since, it must not have told wrongly either.
    for (const [timelineId, at] of told.positions()) {
      const newer = found.loaded.get(timelineId);
      assert.ok(at === 0 || (newer !== undefined && at <= newer.lastRecordLsn), `${timelineId} acknowledged too much`);
    }
    await checkAcknowledged(found.loaded, told, found.acknowledged);
    await useAll(found.loaded, told.models);
    await goOn(told);
    await checkObjects(raw, found.loaded.values());
    for (const timeline of found.loaded.values()) {
      const model = told.models.get(timeline.ttid.timelineId);
      if (model !== undefined) await checkPages(timeline, model, timeline.lastRecordLsn);
    }
    for (const timeline of found.loaded.values()) await timeline.close();
    await found.close();
  }
  for (const timeline of told.timelines) await timeline.close();
  await env.layers.close();
  return found !== null;
}

describe('a tenant attached twice', function () {
  this.timeout(120_000);
  let dir: string;
  before(async () => (dir = await mkdtemp(join(tmpdir(), 'rival-'))));
  after(() => rm(dir, { recursive: true, force: true }));

  /** At every operation, or at every `step`th. Returns how many were tried, and what failed. */
  async function everywhere(options: { afterEffect: boolean; step: number; asks: boolean }) {
    const failures: unknown[] = [];
    let count = 0;
    for (let call = options.afterEffect ? options.step - 1 : 0; ; call += options.step) {
      const root = await mkdtemp(join(dir, 'case-'));
      const raw = await openObjectStore(`file://${root}/remote`);
      const isReached = await rivalAt({ raw, dir: root, call, ...options }).catch((error: unknown) => {
        if (options.asks) throw error;
        failures.push(error);
        return true;
      });
      if (!isReached) return { count, failures };
      count++;
      await rm(root, { recursive: true });
    }
  }

  for (const afterEffect of [false, true]) {
    it(`loses nothing, the rival coming ${afterEffect ? 'after' : 'before'} the effect of an operation`, async () => {
      // The long form: at every operation, not at every other.
      const step = LONG ? 1 : 2;
      const { count } = await everywhere({ afterEffect, step, asks: true });
      assert.ok(count >= 35 / step - 1, `only ${count} operations were tried`);
    });
  }

  long('would be noticed to lose something if the older one did not ask', async () => {
    const { failures } = await everywhere({ afterEffect: false, step: 1, asks: false });
    assert.ok(failures.length > 5, `${failures.length} failures`);
  });

  it('loses nothing on S3 either, at some of the operations', async () => {
    await using fake = await S3Fake.start();
    const restore = useCredentials(fake);
    try {
      for (const call of [3, 9, 14, 20, 27, 33]) {
        await createBucket(fake, `b${call}`);
        const raw = await openObjectStore(`s3://b${call}/x?endpoint=${fake.endpoint}`);
        assert.ok(await rivalAt({ raw, dir: join(dir, `s3-${call}`), call, afterEffect: call % 2 === 0 }));
      }
    } finally {
      restore();
    }
  });

  it('gives each generation to one of many who claim', async () => {
    const raw = await openObjectStore(`file://${dir}/claims`);
    const claims = await Promise.all(Array.from({ length: 8 }, (_, nodeId) => claim(raw, nodeId)));
    assert.deepEqual(
      claims.sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8],
    );
    const again = { tenantId: TENANT, above: 0, nowMs: 0 };
    await assert.rejects(
      claimGeneration(raw, { ...again, nodeId: 1, wanted: 8 - 1 }),
      (e) => errorKind(e) === 'fenced',
    );
    await assert.rejects(claimGeneration(raw, { ...again, nodeId: 99, wanted: 8 }), (e) => errorKind(e) === 'fenced');
    assert.equal(await claimGeneration(raw, { ...again, nodeId: 99, wanted: 20 }), 20);
    assert.equal(await claimGeneration(raw, { ...again, nodeId: 99, wanted: 20 }), 20);
    await checkNewest(raw, { tenantId: TENANT, generation: 20 });
    await assert.rejects(checkNewest(raw, { tenantId: TENANT, generation: 8 }), (e) => errorKind(e) === 'fenced');
  });
});
