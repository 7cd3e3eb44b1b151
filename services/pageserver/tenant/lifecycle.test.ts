/** Tenants over page servers, restarts and crashes: location modes, wiped disks, deletions that are broken off at every operation. */
import { strict as assert } from 'node:assert';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { silentLogger } from '#shared/runtime/log.js';
import { FailingStore } from '../io/testing/failing-store.js';
import { Acknowledged, BRANCH, checkPages, live, ROOT, TENANT, toyEnv, writeBatch } from '../io/testing/toy-life.js';
import { openBrokerFeed } from '../walreceiver/broker-feed.js';
import { POLICY_DEFAULTS } from '../walreceiver/core/receiver-policy.js';
import { readManifest } from './manifest.js';
import { TenantManager } from './tenant-manager.js';

const NOWHERE = '127.0.0.1:9';
const ROOT_TTID = { tenantId: TENANT, timelineId: ROOT };
const BRANCH_TTID = { tenantId: TENANT, timelineId: BRANCH };
const fenced = (error: unknown) => errorKind(error) === 'fenced';

/** The tenants' side of a page server. */
class Node implements AsyncDisposable {
  readonly tenants: TenantManager;
  readonly env;
  readonly #feed = openBrokerFeed(NOWHERE, silentLogger);

  constructor(nodeId: number, store: ObjectStore, workDir: string) {
    this.env = toyEnv(store, workDir);
    const shared = { storage: this.env, feed: this.#feed, log: silentLogger, policy: POLICY_DEFAULTS };
    const rest = {
      clientName: `node-${nodeId}`,
      nodeId,
      ingestStats: { records: 0, bytes: 0 },
      initdbImage: null,
      waitLsnTimeoutMs: 1000,
    };
    const options = { nodeId, random: () => nodeId, secondaryPeriodMs: 1_000_000, attachAtStart: 'ours' as const };
    this.tenants = new TenantManager({ ...shared, ...rest }, options);
  }

  get root() {
    return this.tenants.find(ROOT_TTID).store;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tenants.stop(0);
    this.#feed.close();
    await this.env.layers.close();
  }
}

describe('tenants over page servers', function () {
  this.timeout(120_000);
  let dir: string;
  let store: ObjectStore;
  let told: Acknowledged;
  let count = 0;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lifecycle-'));
    store = await openObjectStore(`file://${dir}/remote`);
    told = new Acknowledged();
    count = 0;
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const node = async (nodeId: number, through: ObjectStore = store): Promise<Node> => {
    const made = new Node(nodeId, through, join(dir, `node-${nodeId}`));
    await made.tenants.start();
    return made;
  };
  /** A tenant with a root timeline and a branch, attached at node 1 at generation 2. */
  const withTenant = async (): Promise<Node> => {
    const one = await node(1);
    await one.tenants.create(TENANT);
    const seed = toyEnv(store, join(dir, 'seed'));
    await live(seed, told, 1);
    for (const timeline of told.timelines) await timeline.close();
    await seed.layers.close();
    await one.tenants.detach(TENANT);
    await one.tenants.attach(TENANT, 0);
    return one;
  };
  const write = async (at: Node): Promise<void> => {
    const { root } = at;
    writeBatch(root, told.models.get(ROOT)!, lsn(root.lastRecordLsn + 1001 + count++));
    await root.checkpoint();
  };
  const check = (at: Node) => checkPages(at.root, told.models.get(ROOT)!, at.root.lastRecordLsn);

  it('recovers a wiped disk by attach alone', async () => {
    const one = await withTenant();
    await write(one);
    await one[Symbol.asyncDispose]();
    await rm(join(dir, 'node-1'), { recursive: true });
    await using again = await node(1);
    assert.deepEqual(again.tenants.location(TENANT), { mode: 'attached-single', generation: 3 });
    await check(again);
    await write(again);
    await check(again);
  });

  it('moves a tenant: the former page server turns stale by itself, reads on, and writes nothing', async () => {
    await using one = await withTenant();
    await using two = await node(2);
    assert.deepEqual(two.tenants.locations(), [], 'what node 1 has is left to it');
    await write(one);
    assert.equal((await two.tenants.attach(TENANT, 0)).generation, 3);
    await check(two);
    const before = await store.list('');
    await check(one);
    const acknowledged = one.root.remoteConsistentLsn;
    one.root.advance(lsn(one.root.lastRecordLsn + 8), one.root.lastRecordLsn);
    await assert.rejects(one.root.checkpoint(), fenced);
    assert.equal(one.root.remoteConsistentLsn, acknowledged, 'safekeepers are told nothing');
    assert.equal(one.tenants.location(TENANT).mode, 'attached-stale');
    await assert.rejects(one.root.checkpoint(), fenced);
    await assert.rejects(one.root.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 }), fenced);
    await assert.rejects(one.tenants.deleteTimeline(BRANCH_TTID), fenced);
    assert.deepEqual(await store.list(''), before);
    await check(two);
    await write(two);
    // What it was told, it is after a restart too; and it can have the tenant back.
    await one[Symbol.asyncDispose]();
    await using again = await node(1);
    assert.equal(again.tenants.location(TENANT).mode, 'attached-stale');
    await assert.rejects(again.tenants.attach(TENANT, 2), fenced);
    assert.equal(again.tenants.location(TENANT).mode, 'attached-stale', 'it reads on after a refusal');
    assert.equal((await again.tenants.attach(TENANT, 0)).generation, 4);
    await check(again);
  });

  it('obeys every location mode, twice as well as once', async () => {
    await using one = await withTenant();
    const generation = 2;
    for (const mode of ['attached-multi', 'attached-multi', 'attached-stale', 'attached-stale'] as const) {
      assert.deepEqual(await one.tenants.setLocation(TENANT, { mode, generation }), { mode, generation });
    }
    await assert.rejects(one.root.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 }), fenced);
    assert.deepEqual(await one.tenants.setLocation(TENANT, { mode: 'attached-multi', generation: 0 }), {
      mode: 'attached-multi',
      generation: 3,
    });
    const objects = new Set(await store.list(''));
    await write(one);
    await one.root.compact({ forceMerge: true, forceImages: true });
    await one.root.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
    for (const key of objects) assert.ok((await store.head(key)) !== null, `${key} was deleted in mode multi`);
    for (let n = 0; n < 2; n++) {
      assert.equal((await one.tenants.setLocation(TENANT, { mode: 'detached', generation: 0 })).mode, 'detached');
      assert.deepEqual(await readdir(join(dir, 'node-1/tenants', TENANT)), ['location.json']);
    }
    assert.throws(() => one.tenants.find(ROOT_TTID), /does not exist/);
    await one[Symbol.asyncDispose]();
    await using again = await node(1);
    assert.deepEqual(again.tenants.locations(), [], 'a detached tenant stays so over a restart');
    await again.tenants.attach(TENANT, 0);
    await check(again);
  });

  it('keeps a secondary warm: an attachment downloads nothing', async () => {
    await using one = await withTenant();
    await using two = await node(2);
    await two.tenants.setLocation(TENANT, { mode: 'secondary', generation: 0 });
    const first = await two.tenants.downloadSecondary(TENANT);
    assert.ok(first.layersTotal > 3 && first.layersDownloaded === first.layersTotal);
    assert.throws(() => two.tenants.find(ROOT_TTID), /secondary/);
    await write(one);
    await one.root.compact({ forceMerge: true });
    await writeFile(join(dir, 'node-2/tenants', TENANT, 'timelines', ROOT, 'leftover'), 'x');
    const second = await two.tenants.downloadSecondary(TENANT);
    assert.equal(second.layersDownloaded, second.layersTotal);
    const local = await readdir(join(dir, 'node-2/tenants', TENANT, 'timelines', ROOT));
    assert.deepEqual(local.sort(), [...one.root.index.layers.keys()].sort());
    const { downloadCount } = two.env.layers;
    await two.tenants.attach(TENANT, 0);
    await check(two);
    assert.equal(two.env.layers.downloadCount, downloadCount);
    await assert.rejects(two.tenants.downloadSecondary(TENANT), /no secondary/);
  });

  /** Runs `act` against a store that fails for good at the n-th change; returns false when it never did. */
  const broken = async (one: Node, failing: FailingStore, call: number, act: () => Promise<unknown>) => {
    failing.failFrom = failing.callCount + call;
    const failed = await act().then(
      () => failing.callCount > failing.failFrom,
      () => true,
    );
    await one[Symbol.asyncDispose]();
    failing.failFrom = Infinity;
    return failed;
  };

  for (const afterEffect of [false, true]) {
    it(`finishes the deletion of a tenant, broken off at any operation ${afterEffect ? 'that took' : 'without'} effect`, async () => {
      for (let call = 0, more = true; more; call++) {
        store = await openObjectStore(`file://${dir}/remote-${call}`);
        told = new Acknowledged();
        await rm(join(dir, 'node-1'), { recursive: true, force: true });
        await (await withTenant())[Symbol.asyncDispose]();
        const failing = new FailingStore(store);
        failing.failAfterEffect = afterEffect;
        const one = await node(1, failing);
        more = await broken(one, failing, call, () => one.tenants.delete(TENANT));
        const left = await readManifest(store, TENANT);
        const wasMarked = left === null || left.deletedAtMs !== null;
        await using again = await node(1);
        if (!wasMarked) {
          // The deletion never began: all is there, and it can be asked for again.
          await check(again);
          assert.equal(await again.tenants.delete(TENANT), true);
        }
        assert.deepEqual(await store.list(''), [], `after operation ${call}`);
        assert.equal(await again.tenants.delete(TENANT), false);
        if (!more) assert.ok(call >= 4, `${call} operations`);
      }
    });
  }

  it('finishes the deletion of a timeline, broken off at any operation', async () => {
    for (let call = 0, more = true; more; call++) {
      store = await openObjectStore(`file://${dir}/remote-${call}`);
      told = new Acknowledged();
      await rm(join(dir, 'node-1'), { recursive: true, force: true });
      await (await withTenant())[Symbol.asyncDispose]();
      const failing = new FailingStore(store);
      failing.failAfterEffect = call % 2 === 1;
      const one = await node(1, failing);
      more = await broken(one, failing, call, () => one.tenants.deleteTimeline(BRANCH_TTID));
      await using again = await node(1);
      const isThere = again.tenants.listTimelines(TENANT).length === 2;
      if (isThere) assert.equal(await again.tenants.deleteTimeline(BRANCH_TTID), true);
      assert.deepEqual(await store.list(`tenants/${TENANT}/timelines/${BRANCH}/`), [], `after operation ${call}`);
      assert.equal(await again.tenants.deleteTimeline(BRANCH_TTID), false);
      await check(again);
    }
  });
});
