/**
 * Image layers and garbage collection over the WAL of a real cluster, with the real redo in the worker thread: pages at the head and at
 * a branch point stay as stock recovery made them, history below the cutoff is refused, and all of that outlives the disk.
 */
import { strict as assert } from 'node:assert';
import { errorKind } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, lsn, lsnToWire, MAX_LSN } from '#shared/core/lsn.js';
import { LsnByTimestampKind, ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { PageServiceClient } from '#gen/neon/pageserver/v1/page_service.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { relationBlockKey } from './core/keyspace.js';
import { RecordedHistory } from './core/testing/recorded-history.js';
import { comparePages } from './testing/compare-pages.js';
import { RecordedServer, TTID } from './testing/recorded-server.js';

const BRANCH = parseTtid({ tenantId: TTID.tenantId, timelineId: '55'.repeat(16) });
const FLAGS = ['--checkpoint-distance', `${1 << 20}`, '--local-layer-bytes-max', '4000000'];

async function load(cluster: TempCluster): Promise<void> {
  await cluster.psql(`
    create table items(id int primary key, body text, n int) with (fillfactor = 70);
    insert into items select i, repeat(md5(i::text), 1 + i % 5), 0 from generate_series(1, 4000) i;
    create index on items(n, body); create table gone as select * from items; checkpoint;
  `);
  await cluster.psql(`update items set n = n + 1 where id % 3 = 0; vacuum items; select pg_sleep(1.1);`);
  await cluster.psql(`drop table gone; create table cut as select * from items; delete from cut where id > 500;`);
  await cluster.psql(
    `vacuum cut; update items set n = n + 1 where id % 5 = 0; create sequence s; select nextval('s');`,
  );
}

describe('maintenance of a recorded history', function () {
  this.timeout(180_000);
  let history: RecordedHistory;
  let recorded: RecordedServer;
  let truth: TempCluster;
  let pastTruth: TempCluster;
  let past: Lsn;

  before(async () => {
    history = await RecordedHistory.record({ load, stop: 'immediate' });
    past = history.boundaries[Math.floor(history.boundaries.length * 0.6)]?.endLsn ?? lsn(0);
    [truth, pastTruth] = await Promise.all([history.recoverTo(), history.recoverTo(past)]);
    recorded = await RecordedServer.create(history);
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start(FLAGS);
    await recorded.waitIngested();
    await recorded.timeline.checkpoint();
  });
  after(async () => {
    await recorded.destroy();
    await Promise.all([truth.destroy(), pastTruth.destroy()]);
    await history.destroy();
  });

  const http = async (method: string, path: string, body?: unknown): Promise<{ status: number; json: unknown }> => {
    const url = `http://${recorded.server.http}/v1/tenant/${TTID.tenantId}${path}`;
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await fetch(url, { method, ...sent });
    const text = await response.text();
    return { status: response.status, json: text === '' ? null : JSON.parse(text) };
  };
  const timelineUrl = `/timeline/${TTID.timelineId}`;
  const compareAll = async (): Promise<void> => {
    const { server, timeline } = recorded;
    assert.ok((await comparePages(server.pg, timeline, history.endLsn, MAX_LSN, truth)) > 1000);
    await comparePages(server.pg, server.tenants.find(BRANCH), past, MAX_LSN, pastTruth);
  };

  it('finds LSNs by time and times by LSN', async () => {
    const client = createClient(ManagementServiceClient, recorded.server.grpc);
    const head = await callUnary(client, client.getTimestampOfLsn, { ttid: TTID, lsn: lsnToWire(history.endLsn) });
    const headMs = Number(head.timestampMs);
    assert.ok(Math.abs(Date.now() - headMs) < 600_000, `${headMs}`);
    const at = async (timestampMs: number) =>
      callUnary(client, client.getLsnByTimestamp, { ttid: TTID, timestampMs: BigInt(timestampMs) });
    assert.deepEqual(await at(headMs + 1000), { kind: LsnByTimestampKind.FUTURE, lsn: lsnToWire(history.endLsn) });
    assert.equal((await at(headMs - 86_400_000)).kind, LsnByTimestampKind.PAST);
    const before = await at(headMs - 1000);
    assert.equal(before.kind, LsnByTimestampKind.PRESENT);
    assert.ok(history.boundaries.some(({ endLsn }) => lsnToWire(endLsn) === before.lsn));
    const text = new Date(headMs - 1000).toISOString();
    const found = await http('GET', `${timelineUrl}/get_lsn_by_timestamp?timestamp=${text}`);
    assert.deepEqual(found.json, { lsn: formatLsn(lsn(Number(before.lsn))), kind: 'present' });
    const time = await http('GET', `${timelineUrl}/get_timestamp_of_lsn?lsn=${formatLsn(lsn(Number(before.lsn)))}`);
    assert.ok(Date.parse(time.json as string) <= headMs - 1000);
    assert.equal((await http('GET', `${timelineUrl}/get_lsn_by_timestamp?timestamp=soon`)).status, 400);
    client.close();
  });

  it('makes image layers that are what redo makes of the history', async () => {
    const { tenants } = recorded.server;
    await tenants.createTimeline(BRANCH, { kind: 'branch', ancestorId: TTID.timelineId, lsn: past });
    const level0 = recorded.timeline.store.layers.level0().length;
    assert.ok(level0 >= 3, `${level0} L0 layers`);
    const query = 'force_l0_compaction=true&force_image_layer_creation=true';
    assert.equal((await http('PUT', `${timelineUrl}/compact?${query}`)).status, 200);
    const { store } = recorded.timeline;
    assert.equal(store.backgroundFailureCount, 0);
    assert.equal(store.layers.level0().length, 0);
    assert.ok(store.imageLayerCount > 0);
    await compareAll();
    await comparePages(recorded.server.pg, recorded.timeline, past, past, pastTruth);
  });

  it('gives up nothing that is leased or young', async () => {
    const client = createClient(ManagementServiceClient, recorded.server.grpc);
    const young = await callUnary(client, client.runGc, { ttid: TTID });
    assert.equal(young.cutoffLsn, lsnToWire(recorded.timeline.store.initdbLsn));
    const { status, json } = await http('POST', `${timelineUrl}/lsn_lease`, { lsn: formatLsn(past) });
    assert.equal(status, 200);
    assert.ok(Date.parse((json as { valid_until: string }).valid_until) > Date.now());
    const leased = await callUnary(client, client.runGc, { ttid: TTID, gcHorizonBytes: 0n, pitrIntervalS: 0 });
    assert.equal(leased.cutoffLsn, lsnToWire(past));
    await comparePages(recorded.server.pg, recorded.timeline, past, past, pastTruth);
    client.close();
  });

  it('collects what no settings keep, and keeps it so after the disk is lost', async () => {
    const settings = { tenant_id: TTID.tenantId, gc_horizon: 0, pitr_interval: '0s', lsn_lease_length: '10m' };
    const put = await fetch(`http://${recorded.server.http}/v1/tenant/config`, {
      method: 'PUT',
      body: JSON.stringify(settings),
    });
    assert.equal(put.status, 200);
    // Leases are lost by a restart; settings are not.
    await recorded.stop({ isCrash: true, loseDisk: true });
    await recorded.start(FLAGS);
    await recorded.waitIngested();
    const config = (await http('GET', '/config')).json as Record<string, Record<string, unknown>>;
    assert.deepEqual(config['tenant_specific_overrides'], {
      gc_horizon: 0,
      pitr_interval: '0s',
      lsn_lease_length: '600s',
    });
    assert.equal(config['effective_config']?.['image_creation_threshold'], 3);
    const bytesBefore = recorded.timeline.store.layerBytes;
    const { json } = await http('PUT', `${timelineUrl}/do_gc`, {});
    const result = json as Record<string, unknown>;
    assert.equal(result['cutoff_lsn'], formatLsn(history.endLsn));
    await compareAll();
    // The branch keeps what it needs; without it more can go.
    assert.equal(await recorded.server.tenants.deleteTimeline(BRANCH), true);
    const after = (await http('PUT', `${timelineUrl}/do_gc`, {})).json as Record<string, unknown>;
    assert.ok((after['layers_removed'] as number) > 0);
    const { store } = recorded.timeline;
    assert.ok(store.layerBytes < bytesBefore);
    assert.equal(store.layers.layers.filter(({ kind }) => kind === 'delta').length, 0, 'images shadow all deltas');
    await comparePages(recorded.server.pg, recorded.timeline, history.endLsn, MAX_LSN, truth);
    const objects = await openObjectStore(`file://${recorded.root}/store`);
    const keys = await objects.list(`tenants/${TTID.tenantId}/timelines/`);
    assert.equal(keys.filter((key) => !key.includes('index_part')).length, store.layers.layers.length);
  });

  it('names the cutoff to whoever asks for less', async () => {
    const { server, timeline } = recorded;
    const cutoff = new RegExp(`requested LSN ${formatLsn(past)} is below the GC cutoff ${formatLsn(history.endLsn)}`);
    const isRefusal = (error: unknown) => errorKind(error) === 'invalid' && cutoff.test(String(error));
    const origin = { kind: 'branch', ancestorId: TTID.timelineId, lsn: past } as const;
    await assert.rejects(server.tenants.createTimeline(BRANCH, origin), isRefusal);
    const key = relationBlockKey({ spc: 1663, db: 5, rel: 1259, fork: 0 }, 0);
    await assert.rejects(timeline.store.getPage(key, past), isRefusal);
    const client = createClient(PageServiceClient, server.grpc);
    const backup = client.getBaseBackup({ ttid: TTID, lsn: lsnToWire(past), replica: false });
    await assert.rejects(async () => {
      for await (const part of backup) assert.ok(part);
    }, cutoff);
    client.close();
    assert.equal((await http('POST', `${timelineUrl}/lsn_lease`, { lsn: formatLsn(past) })).status, 400);
  });

  it('refuses settings that cannot be', async () => {
    const client = createClient(ManagementServiceClient, recorded.server.grpc);
    const { tenantId } = TTID;
    const config = { gcHorizonBytes: 1n << 60n };
    await assert.rejects(callUnary(client, client.setTenantConfig, { tenantId, config }), /too large/);
    const wrong = { imageCreationThreshold: 0 };
    await assert.rejects(callUnary(client, client.setTenantConfig, { tenantId, config: wrong }), /image_creation/);
    const { effective } = await callUnary(client, client.setTenantConfig, { tenantId, config: { pitrIntervalS: 60 } });
    assert.deepEqual([effective?.pitrIntervalS, effective?.gcHorizonBytes], [60, 64n << 20n]);
    client.close();
  });
});
