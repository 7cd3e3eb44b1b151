/** In which order a compute's server starts, and that this is seen by nobody but the clock. */
import { strict as assert } from 'node:assert';
import { Cluster, connstr, freePort } from '../../services/compute-ctl/testing/cluster.js';
import type { Service } from '../../services/compute-ctl/testing/cluster.js';
import { query, until, value } from '../harness/stack.js';

const WAIT_MS = 60_000;

describe('start of a compute', function () {
  this.timeout(240_000);
  let cluster: Cluster;
  let compute: Service;

  before(async () => {
    cluster = await Cluster.start({ safekeepers: 1 });
  });
  after(() => cluster?.stop());
  afterEach(function () {
    if (this.currentTest?.state === 'failed') process.stderr.write((compute?.log() ?? '').slice(-8_000));
  });

  async function start(settings: Record<string, string>): Promise<number> {
    const port = await freePort();
    compute = cluster.compute({ name: 'main', port, settings });
    await compute.started();
    return port;
  }

  async function stop(): Promise<void> {
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  }

  it('has the launchers come after the first queries', async () => {
    const url = connstr(await start({}));
    await query(url, 'CREATE TABLE t AS SELECT 1 AS a');
    const late = ['autovacuum launcher', 'logical replication launcher'];
    const here = async (): Promise<string[]> => {
      const found = await query(url, 'SELECT backend_type FROM pg_stat_activity ORDER BY 1');
      return found.map(([type]) => String(type)).filter((type) => late.includes(type));
    };
    await until('all of them', WAIT_MS, async () => (await here()).join() === late.join());
    const early = `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'logical replication launcher'
      AND backend_start < pg_postmaster_start_time() + interval '900 ms'`;
    assert.equal(await value(url, early), '0');
    // It works, and has not only shown up.
    await query(url, 'ALTER SYSTEM SET autovacuum_naptime = 1');
    await query(url, 'SELECT pg_reload_conf()');
    await query(url, 'INSERT INTO t SELECT generate_series(1, 1000)');
    await until('an autovacuum', WAIT_MS, async () => {
      return (await value(url, `SELECT autoanalyze_count FROM pg_stat_user_tables WHERE relname = 't'`)) !== '0';
    });
    await stop();
  });

  it('stops in good order before they came', async () => {
    const url = connstr(await start({}));
    assert.equal(await value(url, 'SELECT count(*) FROM t'), '1001');
    await stop();
    assert.match(compute.log(), /database system is shut down/);
  });

  it('works with a server that says nothing', async () => {
    const url = connstr(await start({ log_min_messages: 'panic' }));
    assert.equal(await value(url, 'SELECT count(*) FROM t'), '1001');
    await stop();
    assert.doesNotMatch(compute.log(), /database system is shut down/);
  });

  it('works with a server that says everything', async () => {
    const url = connstr(await start({ log_min_messages: 'debug5' }));
    assert.equal(await value(url, 'SELECT count(*) FROM t'), '1001');
    await stop();
  });
});
