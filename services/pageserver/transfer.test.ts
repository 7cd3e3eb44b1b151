/**
 * Clusters in and out: what a plain server's base backup restores to must be what the page server has after importing it, and what a
 * plain server has that starts on an export of that.
 */
import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn, MAX_LSN } from '#shared/core/lsn.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { PageServer } from './context.js';
import { timelinePrefix } from './io/object-keys.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { long } from '#shared/testing/long.js';
import { comparePages } from './testing/compare-pages.js';
import { startIn } from './testing/recorded-server.js';
import { exportFile, importFiles } from './testing/transfer-client.js';

const TENANT = 'ab'.repeat(16);
const ttid = (digits: string): TenantTimelineId => parseTtid({ tenantId: TENANT, timelineId: digits.repeat(16) });

const CONFIG = ['autovacuum = off', 'max_prepared_transactions = 5', 'track_commit_timestamp = on', 'fsync = off'];

async function load(cluster: TempCluster): Promise<void> {
  await cluster.psql(`
    create table items(id int primary key, body text, n int);
    insert into items select i, repeat(md5(i::text), 1 + i % 4), 0 from generate_series(1, 6000) i;
    create index on items using gin (to_tsvector('simple', body)); create index on items(n);
    create unlogged table scratch(id int primary key); insert into scratch select generate_series(1, 500);
    create sequence numbers; select nextval('numbers') from generate_series(1, 50);
    create database other;
    begin; insert into items values (-1, 'prepared', 1); prepare transaction 'pending'`);
  await cluster.psql('create table there as select generate_series(1, 3000) i', 'other');
}

let round = 2;

/** Writes until told to stop, so that files change while they are copied. */
function keepWriting(cluster: TempCluster): () => Promise<void> {
  let isOn = true;
  const writing = (async () => {
    for (; isOn; round++) {
      const i = round;
      await cluster.psql(`update items set n = n + 1 where id % 7 = ${i % 7};
        insert into items select 10000 + ${i} * 100 + g, 'new', ${i} from generate_series(1, 100) g; vacuum items;
        create table t${i} as select * from items where id % 50 = 0; drop table if exists t${i - 2};`);
    }
  })();
  return async () => {
    isOn = false;
    await writing;
  };
}

async function dumpAll(cluster: TempCluster): Promise<string> {
  const { stdout } = await cluster.run('pg_dumpall', cluster.connectArgs());
  return stdout.replace(/^\\(un)?restrict .*$/gm, '');
}

async function unpack(tars: readonly string[]): Promise<TempCluster> {
  const cluster = await TempCluster.empty();
  mkdirSync(cluster.dataDir);
  execFileSync('tar', ['-C', cluster.dataDir, '-xf', tars[0]!]);
  if (tars[1] !== undefined) execFileSync('tar', ['-C', path.join(cluster.dataDir, 'pg_wal'), '-xf', tars[1]]);
  cluster.configure(CONFIG);
  await cluster.own();
  return cluster;
}

describe('import and export of clusters', function () {
  this.timeout(300_000);
  let root: string;
  let source: TempCluster;
  let server: PageServer;

  const start = () => startIn(root, ['--broker-endpoint', '127.0.0.1:1']);
  const objectsOf = async (id: TenantTimelineId) =>
    (await openObjectStore(`file://${root}/store`)).list(timelinePrefix(id));

  before(async () => {
    root = mkdtempSync(path.join(tmpdir(), 'neon-transfer-'));
    server = await start();
    const client = createClient(ManagementServiceClient, server.grpc);
    await callUnary(client, client.createTenant, { tenantId: TENANT });
    client.close();
    source = await TempCluster.create({ config: CONFIG, initdbArgs: ['--wal-segsize=1'] });
    await source.start();
    await load(source);
  });
  after(async () => {
    await server.stop({ isCrash: true });
    await source.destroy();
    rmSync(root, { recursive: true, force: true });
  });

  async function backup(name: string, args: readonly string[]): Promise<string> {
    const dir = path.join(source.root, name);
    await source.run('pg_basebackup', ['-D', dir, '-Ft', ...args, ...source.connectArgs()]);
    return dir;
  }

  /** Import, compare with a restore of the same backup by Postgres itself, export, compare again. */
  async function roundTrip(id: TenantTimelineId, files: { base: string; wal?: string }): Promise<void> {
    const { result } = await importFiles(server.grpc, id, files);
    const timeline = server.tenants.find(id);
    assert.equal(result.timeline?.lastRecordLsn, BigInt(timeline.store.lastRecordLsn));
    assert.equal(timeline.store.remoteConsistentLsn, timeline.store.lastRecordLsn);
    assert.equal(timeline.store.minReadableLsn, timeline.store.lastRecordLsn);
    await using restored = await unpack(files.wal === undefined ? [files.base] : [files.base, files.wal]);
    await restored.start();
    const archive = path.join(root, `${id.timelineId}.tar`);
    const { progressBytes, relationBytes } = await exportFile(server.grpc, id, archive);
    assert.equal(progressBytes, relationBytes);
    await using exported = await unpack([archive]);
    await exported.start();
    assert.match(exported.log(), /database system was shut down at/);
    assert.equal(await exported.psql(`select gid from pg_prepared_xacts`), 'pending');
    for (const cluster of [restored, exported]) await cluster.psql(`commit prepared 'pending'`);
    assert.equal(await dumpAll(exported), await dumpAll(restored));
    await exported.run('pg_amcheck', [
      ...exported.connectArgs(),
      ...['--all', '--install-missing', '--heapallindexed', '--parent-check', '--rootdescend'],
    ]);
    await exported.psql('insert into scratch values (1); insert into items select max(id) + 1 from items; checkpoint');
    await exported.stop('fast');
    assert.doesNotMatch(exported.log(), /WARNING|PANIC|FATAL/);
  }

  it('imports a backup of a busy server that has its WAL with it, and exports it', async () => {
    const stop = keepWriting(source);
    const dir = await backup('fetch', ['-X', 'fetch', '-c', 'fast']);
    await stop();
    await roundTrip(ttid('01'), { base: path.join(dir, 'base.tar') });
  });

  long('imports a backup with its WAL in another archive', async () => {
    const stop = keepWriting(source);
    const dir = await backup('stream', ['-X', 'stream', '-c', 'fast']);
    await stop();
    await roundTrip(ttid('02'), { base: path.join(dir, 'base.tar'), wal: path.join(dir, 'pg_wal.tar') });
  });

  it('has the same after a restart without its disk, and branches', async () => {
    await server.stop({ isCrash: true });
    rmSync(`${root}/work`, { recursive: true });
    server = await start();
    const { store } = server.tenants.find(ttid('01'));
    const at = store.lastRecordLsn;
    const branch = { kind: 'branch', ancestorId: ttid('01').timelineId, lsn: at } as const;
    await server.tenants.createTimeline(ttid('03'), branch);
    const before = { kind: 'branch', ancestorId: ttid('01').timelineId, lsn: lsn(at - 8) } as const;
    await assert.rejects(server.tenants.createTimeline(ttid('04'), before), /history begins/);
    const archive = path.join(root, 'branch.tar');
    await exportFile(server.grpc, ttid('03'), archive);
    await using exported = await unpack([archive]);
    await exported.start();
    assert.equal(await exported.psql('select count(*) from there', 'other'), '3000');
  });

  it('refuses a backup without its WAL, saying what is wanted, and leaves nothing', async () => {
    const dir = await backup('none', ['-X', 'none', '-c', 'fast']);
    await assert.rejects(importFiles(server.grpc, ttid('05'), { base: path.join(dir, 'base.tar') }), (error) => {
      assert.ok(error instanceof StorageError && error.kind === 'precondition', String(error));
      assert.match(error.message, /before the end of the backup.*-X fetch/);
      return true;
    });
    assert.deepEqual(await objectsOf(ttid('05')), []);
    await assert.rejects(async () => server.tenants.find(ttid('05')), /does not exist/);
  });

  it('removes what a crash left of an import', async () => {
    const dir = path.join(source.root, 'fetch');
    const half = path.join(root, 'half.tar');
    execFileSync('sh', ['-c', `head -c 9000000 "$1" > "$2"`, 'sh', path.join(dir, 'base.tar'), half]);
    await assert.rejects(importFiles(server.grpc, ttid('06'), { base: half }), /ends early/);
    assert.deepEqual(await objectsOf(ttid('06')), []);
  });

  long('imports a cluster that was promoted and then stopped cleanly', async () => {
    const dir = path.join(source.root, 'fetch');
    await using promoted = await unpack([path.join(dir, 'base.tar')]);
    execFileSync('touch', [path.join(promoted.dataDir, 'standby.signal')]);
    await promoted.own();
    await promoted.start();
    await promoted.psql(`select pg_promote(); create table after_promotion as select 1 one; commit prepared 'pending'`);
    await promoted.stop('fast');
    const archive = path.join(root, 'stopped.tar');
    const rest = ['--exclude=./pg_wal/*', '--exclude=./global/pg_control', '--exclude=./*.old', '.'];
    execFileSync('tar', ['-C', promoted.dataDir, '-cf', archive, './global/pg_control', ...rest]);
    await importFiles(server.grpc, ttid('07'), { base: archive });
    const timeline = server.tenants.find(ttid('07'));
    await comparePages(server.pg, timeline, timeline.store.lastRecordLsn, MAX_LSN, promoted);
    await exportFile(server.grpc, ttid('07'), path.join(root, 'promoted.tar'));
    await using exported = await unpack([path.join(root, 'promoted.tar')]);
    await exported.start();
    await promoted.start();
    assert.equal(await dumpAll(exported), await dumpAll(promoted));
    assert.equal(await exported.psql('select timeline_id from pg_control_checkpoint()'), '1');
    assert.ok(formatLsn(timeline.store.initdbLsn) !== '0/0');
  });
});
