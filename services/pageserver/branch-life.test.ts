/**
 * Branches of a real history that leave their ancestor, are reset and deleted, and the merging of old history with the real redo in the
 * worker thread: pages stay as stock recovery made them, also from the object store alone.
 */
import { strict as assert } from 'node:assert';
import { HistoryServiceClient } from '#gen/neon/pageserver/v1/history.js';
import { errorKind } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { RecordedHistory } from './core/testing/recorded-history.js';
import { comparePages } from './testing/compare-pages.js';
import { RecordedServer, TTID } from './testing/recorded-server.js';

const branchId = (digits: string): TenantTimelineId =>
  parseTtid({ tenantId: TTID.tenantId, timelineId: digits.repeat(16) });
const EARLY = branchId('e1');
const PAST = branchId('e2');
const CHILD = branchId('e3');
const FLAGS = ['--checkpoint-distance', `${1 << 20}`];

async function load(cluster: TempCluster): Promise<void> {
  await cluster.psql(`create table items(id int primary key, body text, n int) with (fillfactor = 60);
    insert into items select i, md5(i::text), 0 from generate_series(1, 3000) i; create index on items(n); checkpoint`);
  for (let i = 0; i < 6; i++) {
    await cluster.psql(
      `update items set n = n + 1 where id % 4 = ${i % 4}; vacuum items; create table t${i} as select * from items;`,
    );
  }
  await cluster.psql('drop table t0; drop table t3; checkpoint');
}

describe('the life of branches', function () {
  this.timeout(300_000);
  let history: RecordedHistory;
  let recorded: RecordedServer;
  let truth: TempCluster;
  let pastTruth: TempCluster;
  let earlyTruth: TempCluster;
  let past: Lsn;
  let early: Lsn;

  const boundary = (share: number) =>
    history.boundaries[Math.floor(history.boundaries.length * share)]?.endLsn ?? lsn(0);
  const timelineOf = (ttid: TenantTimelineId) => recorded.server.tenants.find(ttid);

  before(async () => {
    history = await RecordedHistory.record({ load, stop: 'immediate' });
    [early, past] = [boundary(0.4), boundary(0.7)];
    [truth, pastTruth, earlyTruth] = await Promise.all([
      history.recoverTo(),
      history.recoverTo(past),
      history.recoverTo(early),
    ]);
    recorded = await RecordedServer.create(history);
    await recorded.stop({ isCrash: true });
    await recorded.start(FLAGS);
    await recorded.waitIngested();
    const { tenants } = recorded.server;
    for (const [ttid, ancestor, at] of [
      [EARLY, TTID, early],
      [PAST, TTID, past],
      [CHILD, PAST, past],
    ] as const) {
      await tenants.createTimeline(ttid, { kind: 'branch', ancestorId: ancestor.timelineId, lsn: at });
    }
  });
  after(async () => {
    await recorded.destroy();
    await Promise.all([truth, pastTruth, earlyTruth].map((cluster) => cluster.destroy()));
    await history.destroy();
  });

  async function compareAll(): Promise<void> {
    const { pg } = recorded.server;
    await comparePages(pg, timelineOf(TTID), history.endLsn, MAX_LSN, truth);
    await comparePages(pg, timelineOf(EARLY), early, MAX_LSN, earlyTruth);
    for (const ttid of [PAST, CHILD]) await comparePages(pg, timelineOf(ttid), past, MAX_LSN, pastTruth);
  }

  it('merges history below the cutoff, keeping what branches need', async () => {
    const timeline = timelineOf(TTID);
    await timeline.checkpoint();
    await timeline.compact({ forceMerge: true });
    const physicalBytes = timeline.store.layerBytes;
    await timeline.collectGarbage({ gcHorizonBytes: 0, pitrIntervalS: 0 });
    const client = createClient(HistoryServiceClient, recorded.server.grpc);
    const result = await callUnary(client, client.compactHistory, { ttid: TTID, force: true }, { deadlineMs: 120_000 });
    assert.ok(result.imageLayers > 0 && result.layersTrimmed + result.layersRemoved > 0, `${result.bytesFreed} freed`);
    assert.equal(physicalBytes - timeline.store.layerBytes, Number(result.bytesFreed));
    const again = await callUnary(client, client.compactHistory, { ttid: TTID, force: true }, { deadlineMs: 120_000 });
    assert.deepEqual(again, { imageLayers: 0, layersRemoved: 0, layersTrimmed: 0, bytesFreed: 0n });
    await compareAll();
    client.close();
  });

  it('tells sizes: of branches the least that could hold them', async () => {
    const response = await fetch(`http://${recorded.server.http}/v1/tenant/${TTID.tenantId}/synthetic_size`);
    const sizes = (await response.json()) as {
      size: number;
      timelines: { timeline_id: string; synthetic_size: number }[];
    };
    const client = createClient(HistoryServiceClient, recorded.server.grpc);
    const wire = await callUnary(client, client.getTenantSizes, { tenantId: TTID.tenantId });
    client.close();
    assert.equal(BigInt(sizes.size), wire.syntheticSizeBytes);
    assert.equal(wire.timelines.length, 4);
    const { view } = timelineOf(TTID);
    const head = await view.logicalSize(history.endLsn);
    const main = wire.timelines.find(({ timelineId }) => timelineId === TTID.timelineId);
    assert.equal(main?.logicalSizeBytes, BigInt(head));
    const wal = history.endLsn - early;
    assert.ok(sizes.size >= head && sizes.size <= head * 3 + wal, `${sizes.size} for ${head} and ${wal} of WAL`);
    assert.equal(wire.timelines.find(({ timelineId }) => timelineId === CHILD.timelineId)?.syntheticSizeBytes, 0n);
  });

  it('detaches a branch, which takes over earlier branches, and goes on without its ancestor', async () => {
    const client = createClient(HistoryServiceClient, recorded.server.grpc);
    const result = await callUnary(client, client.detachAncestor, { ttid: PAST }, { deadlineMs: 120_000 });
    assert.deepEqual(result, {
      detachedFromTimelineId: TTID.timelineId,
      detachedAtLsn: BigInt(past),
      reparentedTimelineIds: [EARLY.timelineId],
    });
    const again = await callUnary(client, client.detachAncestor, { ttid: PAST }, { deadlineMs: 120_000 });
    assert.equal(again.detachedFromTimelineId, TTID.timelineId);
    await assert.rejects(callUnary(client, client.detachAncestor, { ttid: TTID }), /has no ancestor/);
    client.close();
    assert.equal(timelineOf(PAST).store.ancestor, null);
    assert.deepEqual(timelineOf(EARLY).store.ancestor, { timelineId: PAST.timelineId, lsn: early });
    await compareAll();
    assert.equal(await recorded.server.tenants.deleteTimeline(TTID), true);
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start(FLAGS);
    const { pg } = recorded.server;
    await comparePages(pg, timelineOf(EARLY), early, MAX_LSN, earlyTruth);
    for (const ttid of [PAST, CHILD]) await comparePages(pg, timelineOf(ttid), past, MAX_LSN, pastTruth);
  });

  it('resets a branch to its parent, and refuses what cannot be', async () => {
    const client = createClient(HistoryServiceClient, recorded.server.grpc);
    const reset = (ttid: TenantTimelineId, newTimelineId: string, at: number) =>
      callUnary(client, client.resetBranch, { ttid, newTimelineId, ancestorStartLsn: BigInt(at) });
    const { timeline } = await reset(EARLY, 'e4'.repeat(16), 0);
    assert.equal(timeline?.ancestorTimelineId, PAST.timelineId);
    assert.equal(timeline.ancestorLsn, BigInt(past));
    await assert.rejects(reset(PAST, 'e5'.repeat(16), 0), (error) => errorKind(error) === 'precondition');
    await assert.rejects(reset(EARLY, 'e5'.repeat(16), 8), /before the ancestor's history begins|below the GC cutoff/);
    client.close();
    await comparePages(recorded.server.pg, timelineOf(branchId('e4')), past, MAX_LSN, pastTruth);
    assert.equal(await recorded.server.tenants.deleteTimeline(EARLY), true);
  });

  it('reads right at the end of a chain of 50 branches', async () => {
    const { tenants, pg } = recorded.server;
    let ancestorId: string = PAST.timelineId;
    const tookMs: number[] = [];
    for (let depth = 1; depth <= 50; depth++) {
      const ttid = branchId(depth.toString(16).padStart(2, '0'));
      const startedMs = performance.now();
      await tenants.createTimeline(ttid, { kind: 'branch', ancestorId, lsn: past });
      tookMs.push(performance.now() - startedMs);
      ancestorId = ttid.timelineId;
    }
    const last = tenants.find(branchId('32'));
    assert.ok((await comparePages(pg, last, past, MAX_LSN, pastTruth)) > 500);
    await assert.rejects(tenants.deleteTimeline(branchId('31')), /has a branch/);
    assert.equal(tookMs.length, 50);
  });
});
