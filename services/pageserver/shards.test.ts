/** Tenants that are split: the whole page server in this process, fed with WAL that a real cluster wrote, judged by stock recovery. */
import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { Readable } from 'node:stream';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { PageServiceClient, SlruKind } from '#gen/neon/pageserver/v1/page_service.js';
import { ShardServiceClient } from '#gen/neon/pageserver/v1/shard.js';
import type { TenantTimelineId, TimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { shardId } from '#shared/core/shard.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { FORK_FSM, FORK_INIT, parsePageKey, relationBlockKey } from './core/keyspace.js';
import { shardFilter, shardOfPage } from './core/shard-keys.js';
import { RecordedHistory } from './core/testing/recorded-history.js';
import type { ActiveTimeline } from './tenant/active-timeline.js';
import { ImportProgress } from './tenant/import-timeline.js';
import { writeManifest } from './tenant/manifest.js';
import { errorOf, PagestreamClient } from './testing/pagestream-client.js';
import { fileBlocks, packImage, RecordedServer, startIn, TTID, until } from './testing/recorded-server.js';

/** Small, so that every table of the load lies on all shards. */
const STRIPE = 4;
const OTHER = { tenantId: TTID.tenantId, timelineId: TTID.timelineId };

async function load(cluster: TempCluster): Promise<void> {
  await cluster.psql(`
    create table items(id int primary key, body text, n int) with (fillfactor = 70);
    insert into items select i, repeat(md5(i::text), 1 + i % 5), 0 from generate_series(1, 6000) i;
    create index on items using gin (string_to_array(body, 'a')); create index on items using hash (n);
    create table gone as select * from items; create sequence numbers; create unlogged table scratch(id int primary key);
    create database copied strategy file_copy;
  `);
  await cluster.psql(`
    update items set n = n + 1 where id % 3 = 0; delete from items where id % 7 = 0; vacuum items; drop table gone;
    create table cut as select * from items; delete from cut where id > 500; vacuum cut;
    begin; savepoint a; update items set body = 'x' where id < 900; savepoint b; insert into items values (-1, '', 1); commit;
    create table late as select * from items;`);
}

function shardTtid(number: number, count: number): TenantTimelineId {
  return { ...OTHER, tenantId: shardId(TTID.tenantId, number, count) };
}

/** Every page of the recovered cluster from the shard that holds it. Returns how many pages each shard gave. */
async function compare(
  addr: string,
  shards: readonly ActiveTimeline[],
  at: Lsn,
  truth: TempCluster,
): Promise<number[]> {
  const open = ({ ttid }: ActiveTimeline) =>
    PagestreamClient.open(addr, `pagestream_v3 ${ttid.tenantId} ${ttid.timelineId}`);
  const clients = await Promise.all(shards.map(open));
  const counts = shards.map(() => 0);
  const sizes = await Promise.all(shards.map(({ view }) => view.relations(at)));
  for (const other of sizes.slice(1)) assert.deepEqual(other, sizes[0]);
  for (const rel of sizes[0] ?? []) {
    const blocks = fileBlocks(truth, rel) ?? [];
    if (rel.fork !== FORK_FSM) assert.equal(rel.sizeBlocks, blocks.length, `size of ${rel.db}/${rel.rel}.${rel.fork}`);
    const answers = await Promise.all(
      Array.from({ length: rel.sizeBlocks }, (_, block) => {
        const owner = shardOfPage(shards[0]!.store.shard, rel, block);
        counts[owner]!++;
        return clients[owner]!.getPage(rel, block);
      }),
    );
    answers.forEach((answer, block) => {
      assert.equal(answer.tag, 102, answer.tag === 103 ? errorOf(answer) : '');
      if (rel.fork === FORK_FSM) return;
      assert.ok(
        answer.body.equals(blocks[block] ?? Buffer.alloc(0)),
        `${rel.db}/${rel.rel}.${rel.fork} block ${block}`,
      );
    });
  }
  for (const client of clients) client.close();
  return counts;
}

describe('tenants with shards', function () {
  this.timeout(240_000);
  let history: RecordedHistory;
  let truth: TempCluster;
  let recorded: RecordedServer;

  before(async () => {
    history = await RecordedHistory.record({ load, stop: 'immediate' });
    truth = await history.recoverTo();
  });
  after(async () => {
    await truth.destroy();
    await history.destroy();
  });
  afterEach(() => recorded.destroy());

  const find = (ttid: TenantTimelineId) => recorded.server.tenants.find(ttid);
  const ingested = async (timelines: readonly ActiveTimeline[]) => {
    for (const { reader } of timelines) await reader.waitLsn(history.endLsn, 120_000);
  };

  it('keep each block on one shard, sizes on all, the rest on shard 0; over restarts too', async () => {
    recorded = await RecordedServer.create(history);
    const ids = [0, 1, 2].map((number) => shardTtid(number, 3));
    const store = await openObjectStore(`file://${recorded.root}/store`);
    // Shard 0 gets the identity of the recorded cluster; the others take it from there.
    const manifest = {
      tenantId: ids[0]!.tenantId,
      systemId: history.control.systemId,
      generation: 1,
      deletedAtMs: null,
    };
    await writeManifest(store, { ...manifest, stripeBlocks: STRIPE });
    const client = createClient(ShardServiceClient, recorded.server.grpc);
    await callUnary(client, client.createShards, {
      tenantId: TTID.tenantId,
      shardParameters: { count: 3, stripeSize: STRIPE },
    });
    client.close();
    for (const ttid of ids) await recorded.server.tenants.createTimeline(ttid, { kind: 'bootstrap', pgMajor: 15 });
    await ingested(ids.map(find));
    const counts = await compare(recorded.server.pg, ids.map(find), history.endLsn, truth);
    assert.ok(Math.min(...counts) > 500, counts.join());
    await refusesWhatIsNotHere(ids);

    await find(ids[1]!).checkpoint();
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start();
    await ingested(ids.map(find));
    for (const ttid of ids) await find(ttid).compact({ forceImages: true });
    assert.deepEqual(await compare(recorded.server.pg, ids.map(find), history.endLsn, truth), counts);
    const last = recorded.source.feedback.findLast(({ shardCount }) => shardCount === 3);
    assert.ok(last?.shardNumber !== undefined && last.shardNumber < 3);
  });

  async function refusesWhatIsNotHere(ids: readonly TenantTimelineId[]): Promise<void> {
    const nothing = { base: Readable.from([]), wal: Readable.from([]) };
    const options = { progress: new ImportProgress(), signal: new AbortController().signal };
    const imported = { ...ids[1]!, timelineId: 'ab'.repeat(16) as TimelineId };
    await assert.rejects(
      recorded.server.tenants.importTimeline(imported, nothing, options),
      /shard 1 of 3; import into/,
    );
    const { pg, grpc } = recorded.server;
    const rel = { spc: 1663, db: 5, rel: 1259, fork: 0 };
    const { shard } = find(ids[0]!).store;
    const block = Array.from({ length: 60 }, (_, i) => i).find((each) => shardOfPage(shard, rel, each) === 0) ?? 0;
    const wrong = await PagestreamClient.open(pg, `pagestream_v3 ${ids[1]!.tenantId} ${ids[1]!.timelineId}`);
    await assert.rejects(wrong.getPage(rel, block), /lies on shard 0 of 3; this is shard 1/);
    await assert.rejects(
      PagestreamClient.open(pg, `pagestream_v3 ${'ee'.repeat(16)} ${TTID.timelineId}`),
      /does not exist here/,
    );
    const pages = createClient(PageServiceClient, grpc);
    const slru = {
      ttid: ids[2]!,
      kind: SlruKind.MULTIXACT_OFFSETS,
      segmentNumber: 0,
      readLsn: { requestLsn: BigInt(history.endLsn), notModifiedSinceLsn: 0n },
    };
    await assert.rejects(callUnary(pages, pages.getSlruSegment, slru), /shard 0 has SLRUs/);
    pages.close();
  }

  it('come from a split that copies nothing, and drop what is not theirs', async () => {
    recorded = await RecordedServer.create(history);
    recorded.source.availableLsn = history.boundaries[Math.floor(history.boundaries.length / 2)]?.endLsn ?? lsn(0);
    await recorded.timeline.reader.waitLsn(recorded.source.availableLsn, 120_000);
    const tenantBytes = recorded.timeline.store.layerBytes;
    const client = createClient(ShardServiceClient, recorded.server.grpc);
    const request = { tenantId: TTID.tenantId, shardCount: 2, stripeSize: STRIPE };
    const { shards } = await callUnary(client, client.splitTenant, request, { deadlineMs: 60_000 });
    assert.deepEqual(
      shards.map(({ shardNumber, shardCount, stripeSize }) => [shardNumber, shardCount, stripeSize]),
      [
        [0, 2, STRIPE],
        [1, 2, STRIPE],
      ],
    );
    // Again: nothing changes.
    assert.deepEqual((await callUnary(client, client.splitTenant, request)).shards, shards);
    client.close();
    const ids = [0, 1].map((number) => shardTtid(number, 2));
    assert.ok(ids.every((ttid) => find(ttid).store.layerBytes >= tenantBytes));
    recorded.source.availableLsn = history.endLsn;
    await ingested(ids.map(find));
    const counts = await compare(recorded.server.pg, ids.map(find), history.endLsn, truth);
    assert.ok(Math.min(...counts) > 500, counts.join());

    for (const ttid of ids) await dropsTheOthers(find(ttid));
    await recorded.stop({ isCrash: false, loseDisk: true });
    await recorded.start();
    assert.deepEqual(
      recorded.server.tenants.list().map(({ tenantId }) => tenantId),
      ids.map(({ tenantId }) => tenantId),
    );
    assert.deepEqual(await compare(recorded.server.pg, ids.map(find), history.endLsn, truth), counts);
    await goesAwayInOrder(ids);
  });

  async function dropsTheOthers(timeline: ActiveTimeline): Promise<void> {
    await timeline.checkpoint();
    await timeline.compact({ forceMerge: true, forceImages: true });
    await timeline.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
    const { store } = timeline;
    const { layers } = store.index;
    assert.ok(
      [...layers.values()].every(({ heldBy }) => heldBy === undefined),
      [...layers.keys()].join(),
    );
    const keeps = shardFilter(store.shard)!;
    const relations = (await timeline.view.relations(store.lastRecordLsn)).filter(({ fork }) => fork !== FORK_INIT);
    for (const rel of relations) {
      for (let block = 0; block < rel.sizeBlocks; block++) {
        const key = relationBlockKey(rel, block);
        const page = await store.getPage(key, store.lastRecordLsn);
        assert.equal(page !== null, keeps(key), JSON.stringify(parsePageKey(key)));
      }
    }
  }

  async function goesAwayInOrder(ids: readonly TenantTimelineId[]): Promise<void> {
    const client = createClient(ManagementServiceClient, recorded.server.grpc);
    const remove = (tenantId: string) => callUnary(client, client.deleteTenant, { tenantId });
    const attach = callUnary(client, client.attachTenant, { tenantId: TTID.tenantId, generation: 0 });
    await assert.rejects(attach, /was split into 2 shards/);
    await assert.rejects(recorded.server.tenants.delete(TTID.tenantId), /delete shard .*-0002 before/);
    for (const { tenantId } of ids) assert.deepEqual(await remove(tenantId), { existed: true });
    assert.deepEqual(await remove(TTID.tenantId), { existed: true });
    client.close();
    const store = await openObjectStore(`file://${recorded.root}/store`);
    assert.deepEqual(await store.list('tenants/'), []);
  }

  it('move between page servers, each of which takes again what it had', async () => {
    recorded = await RecordedServer.create(history);
    const client = createClient(ShardServiceClient, recorded.server.grpc);
    const request = { tenantId: TTID.tenantId, shardCount: 2, stripeSize: STRIPE };
    await callUnary(client, client.splitTenant, request, { deadlineMs: 60_000 });
    const ids = [0, 1].map((number) => shardTtid(number, 2));
    await callUnary(client, client.releaseTenant, { tenantId: ids[1]!.tenantId });
    client.close();
    const root = mkdtempSync(`${recorded.root}/second-`);
    packImage(history.base, root);
    const flags = [
      '--id',
      '2',
      '--broker-endpoint',
      recorded.source.addr,
      '--remote-storage',
      `file://${recorded.root}/store`,
    ];
    const second = await startIn(root, flags);
    try {
      assert.deepEqual(second.tenants.list(), []);
      await second.tenants.attach(ids[1]!.tenantId, 0);
      const moved = second.tenants.find(ids[1]!);
      await ingested([find(ids[0]!), moved]);
      await recorded.stop({ isCrash: true });
      await recorded.start();
      assert.deepEqual(
        recorded.server.tenants.list().map(({ tenantId }) => tenantId),
        [ids[0]!.tenantId],
      );
      // The bare id is enough where there is one shard.
      assert.equal(second.tenants.find(TTID), moved);
      await until('both report', () => new Set(recorded.source.feedback.map((one) => one.shardNumber)).size >= 2);
    } finally {
      await second.stop({ isCrash: true });
      rmSync(root, { recursive: true });
    }
  });
});
