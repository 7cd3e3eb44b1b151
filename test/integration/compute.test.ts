/** compute_ctl against real safekeepers, page server and Postgres: what its README says happens when. */
import { strict as assert } from 'node:assert';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { ComputeServiceClient, ComputeState, TerminateMode } from '#gen/neon/compute/v1/compute.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { Cluster, connstr, freePort } from '../../services/compute-ctl/testing/cluster.js';
import type { Service } from '../../services/compute-ctl/testing/cluster.js';

async function query<T extends pg.QueryResultRow>(url: string, sql: string): Promise<T[]> {
  const client = new pg.Client(url);
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Waits for something that must come about, without a promise about when. */
async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  for (const endMs = Date.now() + 30_000; Date.now() < endMs; await sleep(50)) if (await holds()) return;
  throw new Error(`did not come about: ${what}`);
}

describe('compute_ctl', function () {
  this.timeout(180_000);
  let cluster: Cluster;
  let port = 0;
  let compute: Service;
  let count = 0;

  async function startCompute(
    spec: Record<string, unknown> = {},
    settings: Record<string, string> = {},
  ): Promise<Service> {
    port = await freePort();
    const started = cluster.compute({ name: `c${++count}`, port, spec, settings });
    await started.started();
    return started;
  }

  function postmaster(): number {
    return Number(readFileSync(`${cluster.dir}/c${count}/pgdata/postmaster.pid`, 'utf8').split('\n')[0]);
  }

  before(async () => {
    cluster = await Cluster.start({ safekeepers: 3, timelineOnSafekeepers: false });
  });
  after(async () => {
    await cluster?.stop();
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(compute?.log() ?? '');
  });

  it('starts on safekeepers that know nothing of the timeline, and tells about itself', async () => {
    compute = await startCompute();
    const client = createClient(ComputeServiceClient, compute.ready?.grpc ?? '');
    const status = await callUnary(client, client.getStatus, {});
    client.close();
    assert.equal(status.state, ComputeState.RUNNING);
    assert.deepEqual([status.tenantId, status.timelineId, status.term], [cluster.tenantId, cluster.timelineId, 1n]);
    assert.ok(status.startLsn > 0n && status.commitLsn >= status.startLsn && (status.timings?.totalMs ?? 0) > 0);
    const http = await fetch(`http://${compute.ready?.http}/status`);
    assert.equal(((await http.json()) as { status: string }).status, 'running');
    const metrics = await (await fetch(`http://${compute.ready?.http}/metrics`)).text();
    assert.match(metrics, /compute_safekeeper_streaming\{safekeeper="[^"]+"[^}]*\} 1/);
  });

  it('terminates with all WAL committed on every safekeeper', async () => {
    await query(connstr(port), 'create table t (id int primary key, body text)');
    await query(connstr(port), "insert into t select i, repeat('x', 100) from generate_series(1, 1000) i");
    const client = createClient(ComputeServiceClient, compute.ready?.grpc ?? '');
    const { flushLsn } = await callUnary(
      client,
      client.terminate,
      { mode: TerminateMode.IMMEDIATE },
      { deadlineMs: 60_000 },
    );
    client.close();
    assert.equal(await compute.exited(), 0);
    for (const index of [0, 1, 2]) {
      const status = await cluster.safekeeperStatus(index);
      assert.deepEqual([status.flushLsn, status.commitLsn], [flushLsn, flushLsn]);
    }
  });

  it('applies roles and databases, once', async () => {
    const cluster_ = {
      settings: [{ name: 'port', value: String((port = await freePort())) }],
      roles: [{ name: 'app "user"', encrypted_password: 'ab'.repeat(16) }],
      databases: [{ name: 'app%db', owner: 'app "user"' }],
    };
    for (const round of [1, 2]) {
      compute = cluster.compute({ name: `roles${round}`, port, spec: { cluster: cluster_ } });
      await compute.started();
      const owner = "select pg_get_userbyid(datdba) o from pg_database where datname = 'app%db'";
      assert.deepEqual(await query(connstr(port), owner), [{ o: 'app "user"' }]);
      assert.equal(compute.log().includes('CREATE DATABASE'), round === 1);
      compute.kill('SIGTERM');
      assert.equal(await compute.exited(), 0);
    }
  });

  it('loses nothing acknowledged when it is killed, and leaves no Postgres behind', async () => {
    compute = await startCompute();
    const server = postmaster();
    const client = new pg.Client(connstr(port));
    client.on('error', () => undefined);
    await client.connect();
    let acknowledged = 1000;
    const writing = (async () => {
      for (;;) {
        await client.query(`insert into t values (${acknowledged + 1}, 'y')`);
        acknowledged += 1;
      }
    })().catch(() => undefined);
    await until('some commits', () => acknowledged > 1050);
    compute.kill('SIGKILL');
    await Promise.all([writing, compute.exited()]);
    await until('the postmaster ends with it', () => {
      try {
        process.kill(server, 0);
        return false;
      } catch {
        return true;
      }
    });
    compute = await startCompute();
    const [found] = await query<{ n: number }>(connstr(port), 'select count(*)::int n from t');
    assert.ok((found?.n ?? 0) >= acknowledged, `${found?.n} of ${acknowledged} acknowledged rows`);
  });

  it('stops when a newer compute takes the timeline over', async () => {
    const old = compute;
    const oldPort = port;
    const idle = new pg.Client(connstr(oldPort));
    idle.on('error', () => undefined);
    await idle.connect();
    compute = await startCompute();
    assert.equal(await old.exited(), 3);
    assert.match(old.log(), /fenced: a newer compute \(term \d+\) took over/);
    await assert.rejects(query(connstr(oldPort), 'select 1'));
    await query(connstr(port), "insert into t values (-1, 'new')");
  });

  it('goes on without a minority, hangs without a quorum, and resumes', async () => {
    cluster.safekeepers[0]?.kill('SIGKILL');
    await query(connstr(port), "insert into t values (-2, 'two of three')");
    cluster.safekeepers[1]?.kill('SIGKILL');
    await cluster.safekeepers[1]?.exited();
    let returned = false;
    const hanging = query(connstr(port), "insert into t values (-3, 'waits')").then(() => (returned = true));
    await sleep(1_500);
    assert.equal(returned, false);
    await cluster.startSafekeeper(0);
    await hanging;
  });

  it('brings a safekeeper up again that missed more than the window in memory holds', async () => {
    // Safekeeper 1 is still down. More WAL than --wal-window-bytes, in one transaction.
    const filler = "insert into t select i, repeat('z', 500) from generate_series(2000000, 2080000) i";
    await query(connstr(port), filler);
    await query(connstr(port), 'checkpoint');
    await cluster.startSafekeeper(1);
    await until('safekeeper 1 catches up', async () => {
      const [behind, ahead] = await Promise.all([cluster.safekeeperStatus(1), cluster.safekeeperStatus(2)]);
      return behind.flushLsn === ahead.flushLsn && behind.commitLsn === ahead.commitLsn;
    });
    assert.match(
      await (await fetch(`http://${compute.ready?.http}/metrics`)).text(),
      /compute_catchup_(local|donor)_bytes_total\S* [1-9]/,
    );
  });

  it('attaches again when somebody terminates the walsender', async () => {
    const kill = "select pg_terminate_backend(pid) from pg_stat_replication where application_name = 'walproposer'";
    await query(connstr(port), kill);
    await query(connstr(port), "insert into t values (-4, 'after')");
    assert.match(compute.log(), /attaching to the walsender again/);
  });

  it('fails when Postgres dies', async () => {
    const server = postmaster();
    process.kill(server, 'SIGKILL');
    assert.equal(await compute.exited(), 1);
    assert.match(compute.log(), /Postgres ended unexpectedly by SIGKILL/);
  });

  it('says what is wrong with a spec, and with a timeline that does not exist', async () => {
    compute = cluster.compute({ name: 'wrong', port, spec: { safekeeper_connstrings: [] } });
    assert.equal(await compute.exited(), 1);
    assert.match(compute.log(), /names no safekeepers/);
    compute = cluster.compute({ name: 'nothing', port, spec: { timeline_id: '0'.repeat(32) } });
    assert.equal(await compute.exited(), 1);
    assert.match(compute.log(), /compute failed/);
  });

  it('finds everything at the end', async () => {
    compute = await startCompute();
    assert.deepEqual(await query(connstr(port), 'select count(*)::int n from t where id < 0'), [{ n: 4 }]);
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
    const statuses = await Promise.all([0, 1, 2].map((index) => cluster.safekeeperStatus(index)));
    for (const status of statuses) assert.equal(status.commitLsn, statuses[0]?.commitLsn);
  });

  it('runs the spec of the Kubernetes add-on as it is', async () => {
    // What its compute.sh makes of its template; ports and addresses are this test's.
    port = await freePort();
    const pageserver = cluster.pageserver?.ready?.pg?.split(':') ?? [];
    const values: [name: string, value: string, vartype: string][] = [
      ['fsync', 'off', 'bool'],
      ['wal_level', 'replica', 'enum'],
      ['hot_standby', 'on', 'bool'],
      ['wal_log_hints', 'on', 'bool'],
      ['log_connections', 'on', 'bool'],
      ['port', String(port), 'integer'],
      ['shared_buffers', '1MB', 'string'],
      ['max_connections', '100', 'integer'],
      ['listen_addresses', '0.0.0.0', 'string'],
      ['max_wal_senders', '10', 'integer'],
      ['max_replication_slots', '10', 'integer'],
      ['wal_sender_timeout', '5s', 'string'],
      ['wal_keep_size', '0', 'integer'],
      ['password_encryption', 'md5', 'enum'],
      ['restart_after_crash', 'off', 'bool'],
      ['synchronous_standby_names', 'walproposer', 'string'],
      ['shared_preload_libraries', 'neon', 'string'],
      ['neon.safekeepers', cluster.safekeeperPorts.map((sk) => `localhost:${sk}`).join(','), 'string'],
      ['neon.timeline_id', cluster.timelineId, 'string'],
      ['neon.tenant_id', cluster.tenantId, 'string'],
      ['neon.pageserver_connstring', `host=${pageserver[0]} port=${pageserver[1]}`, 'string'],
      ['max_replication_write_lag', '500MB', 'string'],
      ['max_replication_flush_lag', '10GB', 'string'],
    ];
    const spec = {
      format_version: 1.0,
      timestamp: '2022-10-12T18:00:00.000Z',
      operation_uuid: '0f657b36-4b0f-4a2d-9c2e-1dcd615e7d8c',
      cluster: {
        cluster_id: 'docker_compose',
        name: 'docker_compose_test',
        state: 'restarted',
        roles: [{ name: 'neon', encrypted_password: 'b093c0d3b281ba6da1eacc608620abd8', options: null }],
        databases: [],
        settings: values.map(([name, value, vartype]) => ({ name, value, vartype })),
      },
      delta_operations: [],
    };
    const dir = `${cluster.dir}/addon`;
    mkdirSync(dir);
    writeFileSync(`${dir}/spec.json`, JSON.stringify(spec));
    const source = ['--pgdata', `${dir}/pgdata`, '-C', `postgresql://cloud_admin@localhost:${port}/postgres`];
    compute = cluster.compute({ name: 'addon', port, source: [...source, '-S', `${dir}/spec.json`] });
    await compute.started();
    const [found] = await query<{ r: string; s: string; w: string }>(
      connstr(port),
      `select rolpassword r, current_setting('shared_buffers') s, current_setting('synchronous_standby_names') w
       from pg_authid where rolname = 'neon'`,
    );
    assert.deepEqual(found, { r: 'md5b093c0d3b281ba6da1eacc608620abd8', s: '1MB', w: 'walproposer' });
    assert.deepEqual(await query(connstr(port), 'select count(*)::int n from t where id < 0'), [{ n: 4 }]);
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
  });
});
