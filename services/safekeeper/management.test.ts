/** What surrounds the consensus: HTTP, the data directory, control files shown, broken timelines. */
import { strict as assert } from 'node:assert';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { lsn } from '#shared/core/lsn.js';
import { silentLogger } from '#shared/runtime/log.js';
import { readConfig } from './config.js';
import { startSafekeeper } from './context.js';
import { dumpControlFiles } from './io/dump-control.js';
import { TestCluster, TTID } from './testing/cluster.js';
import { SafekeeperProcess } from './testing/process.js';

const START = lsn(0x14f_f128);
const FREE = ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0', '--broker-endpoint', '127.0.0.1:1'];

describe('safekeeper management', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start(1);
  });
  afterEach(() => cluster.stop());

  const http = (method: string, url: string, body?: object): Promise<Response> =>
    fetch(`http://${cluster.node(0).safekeeper.httpAddr}${url}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });

  it('speaks the JSON API', async () => {
    const one = `/v1/tenant/${TTID.tenantId}/timeline/${TTID.timelineId}`;
    assert.deepEqual(await (await http('GET', '/v1/status')).json(), { id: 1 });
    assert.equal((await http('GET', one)).status, 404);
    assert.equal((await http('GET', '/v1/tenant/x/timeline/y')).status, 400);
    const ids = { tenant_id: TTID.tenantId, timeline_id: TTID.timelineId };
    assert.equal((await http('POST', '/v1/tenant/timeline', { ...ids })).status, 400);
    const request = { ...ids, start_lsn: '0/14FF128', pg_version: 150018, system_id: '7300000000000000001' };
    const created = await http('POST', '/v1/tenant/timeline', request);
    assert.equal(created.status, 200);
    const status = (await created.json()) as Record<string, unknown>;
    assert.equal(status['timeline_start_lsn'], '0/14FF128');
    assert.equal(status['flush_lsn'], '0/14FF128');
    assert.deepEqual(await (await http('GET', one)).json(), status);
    assert.deepEqual(await (await http('GET', '/v1/tenant/timeline')).json(), [ids]);
    const other = await http('POST', '/v1/tenant/timeline', { ...request, start_lsn: '0/2000000' });
    assert.equal(other.status, 409);
    const metrics = await (await http('GET', '/metrics')).text();
    assert.match(metrics, /safekeeper_flush_lsn\{[^}]*timeline_id="b2b2[^}]*\} 22016296/);
    assert.deepEqual(await (await http('DELETE', one)).json(), { dir_existed: true });
    assert.deepEqual(await (await http('DELETE', one)).json(), { dir_existed: false });
  });

  it('shows control files, also damaged ones, and serves the others', async () => {
    await cluster.create(START);
    const dir = cluster.timelineDir(0);
    const dump = await dumpControlFiles(cluster.node(0).dir);
    assert.equal((dump[0] as Record<string, unknown>)['commitLsn'], '0/14FF128');
    await cluster.stopNode(0);
    const file = path.join(dir, 'safekeeper.control');
    const bytes = await readFile(file);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    await writeFile(file, bytes);
    assert.match(String((await dumpControlFiles(cluster.node(0).dir)).map((x) => JSON.stringify(x))), /fails its CRC/);
    await cluster.restart(0);
    await assert.rejects(cluster.status(0), { kind: 'corrupt' });
    await assert.rejects(cluster.create(START), { kind: 'corrupt' });
    assert.equal((await readdir(dir)).length, 2);
  });

  it('guards its directory and its identity', async () => {
    const { dir } = cluster.node(0);
    const start = (flags: string[]) =>
      startSafekeeper(readConfig(['-D', dir, ...FREE, ...flags], {}), { log: silentLogger });
    await assert.rejects(SafekeeperProcess.start(dir), /did not start/);
    await cluster.stopNode(0);
    await assert.rejects(start(['--id', '2']), { kind: 'precondition' });
    const again = await start([]);
    assert.equal(again.nodeId, 1);
    await again.stop();
    await cluster.restart(0);
    assert.throws(() => readConfig(['--id', 'x', '--listen-grpc', 'nowhere'], {}), /--id[^]*--listen-grpc/);
    assert.equal(readConfig(['--no-sync', '--broker-endpoint', 'http://broker:50051/'], {}).sync, false);
    assert.equal(readConfig(['--broker-endpoint', 'http://broker:50051/'], {}).brokerEndpoint, 'broker:50051');
  });
});
