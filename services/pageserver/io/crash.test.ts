/** The object store fails for good at every possible call: after a restart everything acknowledged as remote-consistent is there. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { listTimelines, loadTimeline, markTimelineDeleted, removeTimeline } from './tenant-storage.js';
import { FailingStore } from './testing/failing-store.js';
import { Acknowledged, BRANCH, checkAcknowledged, live, loadAll, ROOT, TENANT, toyEnv } from './testing/toy-life.js';

/** Returns false when the life came to its end: there is no such call. */
async function crashAt(call: number, options: { afterEffect: boolean; wipeLocal: boolean }): Promise<boolean> {
  const dir = await mkdtemp(join(tmpdir(), 'store-crash-'));
  const remote = await openObjectStore(`file://${dir}/remote`);
  const failing = new FailingStore(remote);
  failing.failFrom = call;
  failing.failAfterEffect = options.afterEffect;
  const env = toyEnv(failing, join(dir, 'local'));
  const told = new Acknowledged();
  try {
    const failed = await live(env, told).then(
      () => false,
      (error: unknown) => error instanceof StorageError || Promise.reject(error),
    );
    for (const timeline of told.timelines) await timeline.close();
    await env.layers.close();
    if (options.wipeLocal) await rm(join(dir, 'local'), { recursive: true, force: true });
    const again = toyEnv(remote, join(dir, 'local'));
    const loaded = await loadAll(again, 1);
    await checkAcknowledged(loaded, told, told.positions());
    for (const timeline of loaded.values()) await timeline.close();
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
      const env = toyEnv(failing, join(dir, 'local'));
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
