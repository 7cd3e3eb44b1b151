/**
 * A tenant over two page servers: split under load, one of them killed under load, and at the end every page compared with what stock
 * recovery makes of the WAL. Stripes are small, so that every table and index lies on both. NEON_LONG=1 adds a load that writes records of
 * every kind, and databases.
 */
import { strict as assert } from 'node:assert';
import pg from 'pg';
import { formatLsn } from '#shared/core/lsn.js';
import { LONG } from '#shared/testing/long.js';
import { runIngestLoad } from '../../services/pageserver/core/testing/ingest-load.js';
import { INITDB_IMAGE } from '../../services/compute-ctl/testing/cluster.js';
import { ComputeServer } from '../harness/compute-server.js';
import { compareWithRecovered } from '../harness/page-compare.js';
import { ShardCluster } from '../harness/shard-cluster.js';
import type { ShardCompute } from '../harness/shard-cluster.js';
import { until, value, withClient } from '../harness/stack.js';
import { recoverStock } from '../harness/stock-recovery.js';

const SETTINGS = {
  shared_buffers: '2MB',
  max_prepared_transactions: '20',
  // Everything that is not in shared buffers comes from the page servers.
  'neon.file_cache_size_limit': '0',
};
const TIMEOUT_MS = 120_000;
const INDEXES = `
  create extension if not exists amcheck;
  create table shapes(id int primary key, place point, words tsvector, name text, n int, span int4range);
  insert into shapes select i, point(i % 97, i % 89), to_tsvector('simple', md5(i::text)), md5(i::text), i % 50, int4range(i, i + 9)
    from generate_series(1, 12000) i;
  create index on shapes using gist (place); create index on shapes using gin (words); create index on shapes using hash (name);
  create index on shapes using spgist (name); create index on shapes using brin (n); create index on shapes using gist (span);
  create table counters(id int primary key, n int); insert into counters select i, 0 from generate_series(1, 4000) i;
`;
const CHECK = `select count(bt_index_check(c.oid, true)) from pg_class c join pg_am a on a.oid = c.relam
  where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p'`;

/** Increments until told to stop, and counts what was acknowledged. What fails is tried again: only commits count. */
class Writer {
  acknowledged = 0;
  private isStopping = false;
  private readonly running: Promise<void>;

  constructor(url: string) {
    this.running = this.run(url);
  }

  private async run(url: string): Promise<void> {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    await client.connect();
    for (let i = 0; !this.isStopping; i++) {
      await client.query('update counters set n = n + 1 where id = $1', [1 + ((i * 997) % 4000)]);
      this.acknowledged++;
    }
    await client.end();
  }

  async progress(): Promise<void> {
    const before = this.acknowledged;
    await until('the load to go on', TIMEOUT_MS, () => Promise.resolve(this.acknowledged > before + 200));
  }

  async stop(): Promise<number> {
    this.isStopping = true;
    await this.running;
    return this.acknowledged;
  }
}

describe('a tenant over two page servers', function () {
  this.timeout(600_000);
  let cluster: ShardCluster;
  let compute: ShardCompute;
  let writer: Writer;

  before(async () => {
    cluster = await ShardCluster.start({ pageservers: 2, shards: 0, stripeBlocks: 8 });
    compute = await cluster.startCompute('first', SETTINGS);
  });
  after(() => cluster?.[Symbol.asyncDispose]());
  afterEach(function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(cluster.logs());
  });

  it('is split under load, and the compute goes on with the new shard map', async () => {
    await new ComputeServer(compute.url).psql(INDEXES);
    writer = new Writer(compute.url);
    await writer.progress();
    await cluster.split(2);
    await cluster.reconfigure(compute);
    await writer.progress();
    const sql = `select count(*) || ' ' || sum(id) || ' ' || count(distinct name) from shapes`;
    assert.equal(await value(compute.url, sql), '12000 72006000 12000');
  });

  it('waits while one page server is away, and resumes', async () => {
    cluster.pageservers[1]?.kill('SIGKILL');
    await cluster.pageservers[1]?.exited();
    await cluster.startPageserver(1);
    await writer.progress();
    assert.equal(await value(compute.url, 'select sum(n) >= 0 from counters'), 'true');
  });

  it('keeps every acknowledged commit and sound indexes over a restart of the compute', async () => {
    if (LONG) await runIngestLoad(new ComputeServer(compute.url));
    const acknowledged = await writer.stop();
    compute.service.kill('SIGKILL');
    await compute.service.exited();
    compute = await cluster.startCompute('second', SETTINGS);
    assert.equal(Number(await value(compute.url, 'select sum(n) from counters')), acknowledged);
    assert.ok(Number(await value(compute.url, CHECK)) > 100);
    await withClient(compute.url, async (client) => {
      await client.query('set enable_seqscan = off');
      for (const where of ['place <@ box(point(3, 3), point(5, 5))', `name = md5('77')`, 'n = 7', 'span @> 600']) {
        const byIndex = (await client.query(`select count(*) from shapes where ${where}`)).rows;
        await client.query('set enable_seqscan = on; set enable_indexscan = off; set enable_bitmapscan = off');
        assert.deepEqual((await client.query(`select count(*) from shapes where ${where}`)).rows, byIndex, where);
        await client.query('reset all; set enable_seqscan = off');
      }
    });
  });

  it('has the same pages as stock recovery', async () => {
    compute.service.kill('SIGTERM');
    await compute.service.exited();
    const { end, walDirs } = await cluster.endOfWal();
    using reader = cluster.reader();
    await reader.waitIngested(end, TIMEOUT_MS);
    await using recovered = await recoverStock({ reader, initdbImage: INITDB_IMAGE, walDirs }, end);
    const { differences, ...counts } = await compareWithRecovered(reader, end, recovered.dataDir);
    process.stderr.write(`      at ${formatLsn(end)} compared ${JSON.stringify(counts)}\n`);
    assert.deepEqual(differences.slice(0, 20), []);
    assert.ok(counts.pages > (LONG ? 5_000 : 3_000), `only ${counts.pages} pages`);
  });
});
