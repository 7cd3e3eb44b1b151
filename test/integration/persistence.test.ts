/** What WAL does not carry by itself outlives a compute: statistics, commit times, replication slots and origins. Real processes. */
import { strict as assert } from 'node:assert';
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { PG_BIN, TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { Cluster, connstr, freePort } from '../../services/compute-ctl/testing/cluster.js';
import type { Service } from '../../services/compute-ctl/testing/cluster.js';

const SETTINGS = {
  wal_level: 'logical',
  track_commit_timestamp: 'on',
  autovacuum: 'off',
  allow_in_place_tablespaces: 'on',
};

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
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const endMs = Date.now() + 40_000; Date.now() < endMs; await sleep(100)) if (await holds()) return;
  throw new Error(`did not come about: ${what}`);
}

describe('what outlives a compute', function () {
  this.timeout(120_000);
  let cluster: Cluster;
  let subscriber: TempCluster;
  let compute: Service;
  let count = 0;
  const port = freePort();
  const url = async (): Promise<string> => connstr(await port);

  async function startCompute(): Promise<void> {
    compute = cluster.compute({ name: `c${++count}`, port: await port, settings: SETTINGS });
    await compute.started();
  }
  async function restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    compute.kill(signal);
    const code = await compute.exited();
    if (signal === 'SIGTERM') assert.equal(code, 0);
    await startCompute();
  }
  const sum = 'select count(*)::int as n, coalesce(sum(id), 0)::int as total from item';
  const onSubscriber = async (): Promise<string> => JSON.stringify(await subscriber.psql(sum));
  /** The subscriber has every row once: its table has no key, so that a row applied twice would show. */
  async function converges(rows: number): Promise<void> {
    await until(`${rows} rows at the subscriber`, async () => (await onSubscriber()).includes(`${rows}|`));
    const [own] = await query<{ n: number; total: number }>(await url(), sum);
    assert.match(await onSubscriber(), new RegExp(`${own?.n}\\|${own?.total}`));
  }

  before(async () => {
    [cluster, subscriber] = await Promise.all([
      Cluster.start({ safekeepers: 1 }),
      TempCluster.create({ config: ['wal_level = logical'] }),
    ]);
    await Promise.all([startCompute(), subscriber.start()]);
  });
  after(async () => {
    await cluster?.stop();
    await subscriber?.destroy();
  });
  afterEach(function () {
    if (this.currentTest?.state === 'failed') process.stderr.write((compute?.log() ?? '').slice(-6_000));
  });

  it('statistics and commit times, after a clean stop', async () => {
    await query(await url(), 'create table item (id int, body text)');
    await query(await url(), "insert into item select i, 'x' from generate_series(1, 100) i");
    await query(await url(), 'select pg_stat_force_next_flush()');
    const times = 'select xmin::text as xid, pg_xact_commit_timestamp(xmin)::text as at from item limit 1';
    const before = await query<{ xid: string; at: string }>(await url(), times);
    assert.ok(before[0]?.at !== null);
    await restart('SIGTERM');
    assert.deepEqual(await query(await url(), times), before);
    const inserted = "select n_tup_ins::int as n from pg_stat_user_tables where relname = 'item'";
    assert.deepEqual(await query(await url(), inserted), [{ n: 100 }]);
    await restart('SIGKILL');
    assert.deepEqual(await query(await url(), inserted), [{ n: 0 }]);
    assert.deepEqual(await query(await url(), times), before);
  });

  it('a subscription to it, over a stop and over a kill', async () => {
    await query(await url(), 'create publication everything for all tables');
    await subscriber.psql('create table item (id int, body text)');
    await subscriber.psql(`create subscription follows connection '${await url()}' publication everything`);
    await converges(100);
    await query(await url(), "insert into item select i, 'y' from generate_series(101, 200) i");
    await converges(200);
    await restart('SIGTERM');
    await query(await url(), "insert into item select i, 'z' from generate_series(201, 300) i");
    await converges(300);
    await sleep(1_500);
    await restart('SIGKILL');
    await query(await url(), "insert into item select i, 'z' from generate_series(301, 400) i");
    await converges(400);
    const slots = "select count(*)::int as n from pg_replication_slots where slot_type = 'logical'";
    assert.deepEqual(await query(await url(), slots), [{ n: 1 }]);
    await subscriber.psql('drop subscription follows');
    await sleep(1_500);
    await restart('SIGKILL');
    assert.deepEqual(await query(await url(), slots), [{ n: 0 }]);
  });

  it('its own progress as a subscriber', async () => {
    await query(await url(), "select pg_replication_origin_create('elsewhere')");
    await query(
      await url(),
      `begin; select pg_replication_origin_session_setup('elsewhere');
       select pg_replication_origin_xact_setup('0/ABCDEF', '2020-01-01 00:00:00Z'); create table took_over(id int); commit`,
    );
    await restart('SIGKILL');
    const progress = "select pg_replication_origin_progress('elsewhere', false)::text as lsn";
    assert.deepEqual(await query(await url(), progress), [{ lsn: '0/ABCDEF' }]);
  });

  it('relations and databases in a tablespace in place, over a kill', async () => {
    const sums = 'select count(*)::int as n, sum(i)::int as total, min(b) as b from placed';
    await query(await url(), "create tablespace here location ''");
    await query(
      await url(),
      "create table placed tablespace here as select i, repeat('x', 500) as b from generate_series(1, 3000) i",
    );
    await query(await url(), 'create index on placed (i) tablespace here');
    await query(await url(), 'create database elsewhere tablespace here');
    const before = await query(await url(), sums);
    await restart('SIGKILL');
    assert.deepEqual(await query(await url(), sums), before);
    await query(await url(), "insert into placed values (-1, 'a'); create table more (i int) tablespace here");
    const [last] = await query<{ b: string }>(await url(), 'select b from placed where i = -1');
    assert.equal(last?.b, 'a');
    const there = (await url()).replace(/\/postgres\b/, '/elsewhere');
    assert.notEqual(there, await url());
    assert.deepEqual(await query(there, "select count(*)::int as n from pg_class where relname = 'pg_class'"), [
      { n: 1 },
    ]);
  });

  it('and the WAL reads through', async () => {
    compute.kill('SIGTERM');
    assert.equal(await compute.exited(), 0);
    const dir = join(cluster.dir, 'sk0', cluster.tenantId, cluster.timelineId);
    const status = await cluster.safekeeperStatus(0);
    const hex = (lsn: bigint): string => `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`;
    // pg_waldump wants plain names: read through a directory of links.
    const links = join(cluster.dir, 'waldump');
    mkdirSync(links);
    for (const name of readdirSync(dir).filter((file) => /^[0-9A-F]{24}/.test(file))) {
      symlinkSync(join(dir, name), join(links, name.replace('.partial', '')));
    }
    const args = ['-p', links, '-s', hex(status.timelineStartLsn), '-e', hex(status.commitLsn), '-r', 'LogicalMessage'];
    const { stdout } = await promisify(execFile)(join(PG_BIN, 'pg_waldump'), args, { maxBuffer: 64 << 20 });
    assert.match(stdout, /neon-file:pg_stat\/pgstat\.stat/);
  });
});
