/**
 * The extension in a stock server, with a page server that serves one stopped data directory and can be made to misbehave.
 * What needs the real page server (several lives of a compute, branches) is in test/integration.
 */
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { PageFileServer } from './testing/page-file-server.js';

const USER = 'cloud_admin';
const IDENTITY = [`neon.tenant_id = '${'1'.repeat(32)}'`, `neon.timeline_id = '${'2'.repeat(32)}'`];
const PRELOAD = "shared_preload_libraries = 'neon'";
// The stopped directory never learns what is written here, so that must stay.
const KEEP_WRITTEN = 'neon.file_cache_free_written = off';
const WORKLOAD = readFileSync(path.join(import.meta.dirname, 'testing/workload.sql'), 'utf8');
const SHARD_VECTORS = path.join(import.meta.dirname, '../../shared/core/testdata/shard-vectors.txt');
const SUM = 'select count(*), sum(hashtext(f::text)) from filled f';

function isRelationFile(name: string): boolean {
  return /^\d+(_fsm|_vm)?(\.\d+)?$/.test(name);
}

/** Deletes what a compute does not get: all relation files but initialisation forks. */
function removeRelations(dataDir: string): void {
  const databases = readdirSync(path.join(dataDir, 'base')).map((name) => path.join('base', name));
  for (const dir of ['global', ...databases].map((name) => path.join(dataDir, name))) {
    for (const name of readdirSync(dir).filter(isRelationFile)) rmSync(path.join(dir, name));
  }
}

describe('extension neon', function () {
  this.timeout(120_000);
  let source: TempCluster;
  let pages: PageFileServer;
  let sum: string;

  before(async () => {
    source = await TempCluster.create({ user: USER });
    await source.start();
    await source.psql('create table filled as select i, repeat(md5(i::text), 10) t from generate_series(1, 20000) i');
    await source.psql('create index on filled (i); vacuum analyze filled; create database work');
    sum = await source.psql(SUM);
    await source.stop();
    pages = await PageFileServer.start(source.dataDir);
  });
  after(async () => {
    await pages?.[Symbol.asyncDispose]();
    await source?.destroy();
  });
  afterEach(() => pages.behave('proper'));

  async function withCompute(config: readonly string[], act: (compute: TempCluster) => Promise<void>): Promise<void> {
    const connstring = `neon.pageserver_connstring = 'host=127.0.0.1 port=${pages.port}'`;
    const compute = await source.clone({
      config: [PRELOAD, ...IDENTITY, connstring, 'shared_buffers = 1MB', KEEP_WRITTEN, ...config],
    });
    try {
      removeRelations(compute.dataDir);
      await compute.start();
      await act(compute);
    } finally {
      await compute.destroy();
    }
  }

  async function counter(compute: TempCluster, name: string): Promise<number> {
    return Number(await compute.psql(`select value from neon.stats where name = '${name}'`));
  }

  it('reads every page from the page server', async () => {
    await withCompute(['neon.file_cache_size_limit = 0'], async (compute) => {
      await compute.psql('create extension neon');
      const before = pages.pageCount;
      assert.equal(await compute.psql(SUM), sum);
      assert.equal(await compute.psql(SUM), sum);
      const blocks = Number(await compute.psql("select pg_relation_size('filled') / 8192"));
      assert.ok(blocks > 500 && pages.pageCount - before > 1.5 * blocks, `${pages.pageCount - before} for ${blocks}`);
      assert.equal(await counter(compute, 'pages_kept'), 0);
    });
  });

  it('spreads blocks over shards as the page servers do', async () => {
    const vectors = readFileSync(SHARD_VECTORS, 'utf8')
      .split('\n')
      .filter((line) => /^\d/.test(line))
      .map((line) => line.split(' ').map(Number));
    assert.ok(vectors.length > 50);
    await withCompute([], async (compute) => {
      await compute.psql(`create function shard_of_block(int, int, oid, bigint) returns int
        as '$libdir/neon', 'neon_shard_of_block' language c strict`);
      const rows = vectors.map(([count, stripe, rel, block]) => `(${count}, ${stripe}, ${rel}::oid, ${block}::bigint)`);
      const sql = `select shard_of_block(c, s, r, b) from (values ${rows.join(', ')}) v(c, s, r, b)`;
      assert.deepEqual(
        (await compute.psql(sql)).split('\n').map(Number),
        vectors.map((vector) => vector[4]),
      );
    });
  });

  it('reads a page once when it may keep it', async () => {
    await withCompute([], async (compute) => {
      await compute.psql('create extension neon');
      assert.equal(await compute.psql(SUM), sum);
      const before = await counter(compute, 'reads_remote');
      assert.equal(await compute.psql(SUM), sum);
      assert.ok((await counter(compute, 'reads_remote')) - before < 100);
    });
  });

  for (const config of [[], ['neon.relsize_hash_size = 64', 'neon.file_cache_size_limit = 0']]) {
    it(`runs the workload ${config.length > 0 ? 'with hardly any cache' : 'with its caches'}`, async () => {
      await withCompute(config, async (compute) => {
        await compute.psql(WORKLOAD, 'work');
        await compute.stop();
        await compute.start();
        assert.equal(await compute.psql('select sum(v) from items', 'work'), '14995000');
        await compute.run('pg_amcheck', [
          ...compute.connectArgs(),
          '--install-missing',
          '--heapallindexed',
          '-d',
          'work',
        ]);
      });
    });
  }

  it('shows what it did and how long it took', async () => {
    await withCompute(['neon.file_cache_size_limit = 1MB', 'track_io_timing = on'], async (compute) => {
      await compute.psql('create extension neon');
      const pages = Number(await compute.psql("select pg_relation_size('filled') / 8192"));
      await compute.psql('select neon.approximate_working_set_size(true), pg_sleep(1.1)');
      const plan = await compute.psql('explain (analyze, buffers, format json) select sum(length(t)) from filled');
      const [first] = JSON.parse(plan) as { Plan: Record<string, number> }[];
      assert.ok((first?.Plan['Shared Read Blocks'] ?? 0) > pages / 2, plan);
      assert.ok((first?.Plan['I/O Read Time'] ?? 0) > 0, plan);
      assert.equal(Number(await compute.psql('select sum(length(t)) from filled')) > 0, true);
      const seen = Number(await compute.psql('select neon.approximate_working_set_size_seconds(600)'));
      assert.ok(seen > pages * 0.85 && seen < pages * 1.2 + 200, `${seen} pages were seen, the table has ${pages}`);
      assert.equal(await compute.psql('select neon.approximate_working_set_size_seconds(0) <= 1100'), 't');

      const metric = async (name: string) =>
        Number(await compute.psql(`select value from neon.neon_perf_counters where metric = '${name}'`));
      assert.ok((await metric('getpage_wait_seconds_count')) >= pages);
      assert.ok((await metric('getpage_wait_seconds_sum')) > 0);
      assert.ok((await metric('pageserver_requests_sent_total')) >= pages);
      assert.ok((await metric('getpage_prefetch_requests_total')) > 0);
      const buckets = await compute.psql(
        `select count(*), bool_and(value >= previous) from (select value, lag(value, 1, 0::float8) over (order by bucket_le) as previous
           from neon.neon_perf_counters where metric = 'getpage_wait_seconds_bucket') x`,
      );
      assert.equal(buckets, '21|t');
      const own = await compute.psql(
        `select count(i) > 0 from filled; select value > 0 from neon.neon_backend_perf_counters
          where pid = pg_backend_pid() and metric = 'pageserver_requests_sent_total'`,
      );
      assert.equal(own, 't\nt');
      const cache = await compute.psql(
        'select file_cache_misses > 0, file_cache_hit_ratio between 0 and 100 from neon.neon_stat_file_cache',
      );
      assert.equal(cache, 't|t');
      assert.equal(
        await compute.psql("select lfc_value from neon.neon_lfc_stats where lfc_key = 'file_cache_limit'"),
        '2',
      );
    });
  });

  it('recovers from a crash in the middle of the workload', async () => {
    await withCompute([], async (compute) => {
      await compute.psql('create table kept as select generate_series(1, 50000) i; create index on kept (i)', 'work');
      await compute.stop('immediate');
      await compute.start();
      assert.equal(
        await compute.psql('set enable_seqscan = off; select count(*) from kept where i > 0', 'work'),
        '50000',
      );
      assert.equal(await compute.psql(SUM), sum);
    });
  });

  /** In a session that is open before the page server changes its ways. */
  async function inSession(compute: TempCluster, act: (client: pg.Client) => Promise<void>): Promise<void> {
    const client = new pg.Client(compute.connection());
    await client.connect();
    try {
      await client.query('select count(*) from filled where i = 1');
      await act(client);
    } finally {
      await client.end();
    }
  }

  it('lets a statement be cancelled while the page server is silent', async () => {
    await withCompute([], async (compute) => {
      await inSession(compute, async (client) => {
        await client.query('set statement_timeout = 500');
        pages.behave('silent');
        await assert.rejects(
          client.query('select sum(length(t)) from filled'),
          /canceling statement due to statement timeout/,
        );
        pages.behave('proper');
        assert.deepEqual((await client.query('select count(*) from filled')).rows, [{ count: '20000' }]);
      });
      assert.equal(await compute.psql(SUM), sum);
    });
  });

  it('takes no answer that is not to its request', async () => {
    await withCompute(['neon.max_reconnect_attempts = 3', 'neon.file_cache_size_limit = 0'], async (compute) => {
      await inSession(compute, async (client) => {
        pages.behave('mixed-up');
        await assert.rejects(client.query(SUM), /could not reach the page server after 4 attempts/);
        pages.behave('proper');
        assert.deepEqual((await client.query('select count(*) from filled')).rows, [{ count: '20000' }]);
      });
      assert.match(compute.log(), /sent an answer that cannot be used/);
      assert.equal(await compute.psql(SUM), sum);
    });
  });

  it('follows the page server to a new address in the middle of a statement', async () => {
    const elsewhere = await PageFileServer.start(source.dataDir);
    try {
      await withCompute(['neon.file_cache_size_limit = 0'], async (compute) => {
        await inSession(compute, async (client) => {
          pages.behave('silent');
          const statement = client.query('select count(*) from filled');
          compute.configure([`neon.pageserver_connstring = 'postgresql://127.0.0.1:${elsewhere.port}'`]);
          process.kill(compute.pid ?? assert.fail('not running'), 'SIGHUP');
          assert.deepEqual((await statement).rows, [{ count: '20000' }]);
        });
      });
      assert.ok(elsewhere.pageCount > 0);
    } finally {
      await elsewhere[Symbol.asyncDispose]();
    }
  });

  it('asks again when the connection breaks', async () => {
    await withCompute(['neon.file_cache_size_limit = 0'], async (compute) => {
      const breaking = setInterval(() => pages.breakConnections(), 20);
      try {
        for (let i = 0; i < 5; i++) assert.equal(await compute.psql(SUM), sum);
      } finally {
        clearInterval(breaking);
      }
    });
  });

  it('refuses statements that work on files', async () => {
    await withCompute([], async (compute) => {
      await assert.rejects(compute.psql("create tablespace t location '/tmp'"), /not possible with remote storage/);
      await assert.rejects(
        compute.psql('alter database work set tablespace pg_global'),
        /not possible with remote storage/,
      );
      await assert.rejects(compute.psql("select pg_backup_start('x')"), /cannot be backed up by copying/);
      await compute.psql('create database copied template work strategy file_copy');
      assert.equal(await compute.psql('select count(*) > 300 from pg_class', 'copied'), 't');
      await compute.psql('drop database copied');
    });
  });

  const address = "neon.pageserver_connstring = 'host=127.0.0.1'";
  const refusals: [string, string[], RegExp][] = [
    ['with an incomplete configuration', [IDENTITY[0] ?? ''], /neon\.timeline_id is not set/],
    [
      'with a malformed tenant',
      [IDENTITY[1] ?? '', address, "neon.tenant_id = 'xyz'"],
      /32 hexadecimal digits[^]*neon\.tenant_id is not set/,
    ],
    [
      'without enough WAL',
      [...IDENTITY, address, 'wal_level = minimal', 'max_wal_senders = 0'],
      /wal_level must be "replica" or higher/,
    ],
    [
      'as a replica without standby.signal',
      [...IDENTITY, address, "neon.compute_mode = 'replica'"],
      /neon\.compute_mode is not "primary", but there is no standby\.signal/,
    ],
  ];
  for (const [what, config, message] of refusals) {
    it(`refuses to start ${what}`, async () => {
      const server = await source.clone({ config: [PRELOAD, ...config] });
      try {
        await assert.rejects(server.run('postgres', ['-D', server.dataDir]), message);
      } finally {
        await server.destroy();
      }
    });
  }

  it('refuses to start as a standby that claims to be a primary', async () => {
    const server = await source.clone({ config: [PRELOAD, ...IDENTITY, address] });
    try {
      writeFileSync(path.join(server.dataDir, 'standby.signal'), '');
      await assert.rejects(
        server.run('postgres', ['-D', server.dataDir]),
        /there is a standby\.signal, but neon\.compute_mode is "primary"/,
      );
    } finally {
      await server.destroy();
    }
  });

  it('leaves a server without a page server alone', async () => {
    const server = await source.clone({ config: [PRELOAD] });
    try {
      await server.start();
      assert.equal(await server.psql(SUM), sum);
      await server.psql('create extension neon');
      await assert.rejects(server.psql('select * from neon.stats'), /does not run on a page server/);
    } finally {
      await server.destroy();
    }
  });
});
