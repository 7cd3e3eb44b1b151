/**
 * Every page that storage serves equals what PostgreSQL's own recovery makes of the same WAL: after a load that reaches every kind of
 * record, over two lives of a compute, the first of which ends by SIGKILL in the middle of things.
 */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsnFromWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { runIngestLoad } from '../../services/pageserver/core/testing/ingest-load.js';
import { ComputeServer } from '../harness/compute-server.js';
import { compareWithRecovered } from '../harness/page-compare.js';
import { TestStack, pgTool, sleep, withClient } from '../harness/stack.js';
import { copyWal, recoverStock } from '../harness/stock-recovery.js';
import { StorageReader } from '../harness/storage-reader.js';
import { LOADS } from '../oracle/loads.js';

const INITDB_IMAGE = resolve(import.meta.dirname, '../../build/initdb-15.tar');
const INGEST_TIMEOUT_MS = 60_000;
const SETTINGS = { max_prepared_transactions: '20', shared_buffers: '8MB', autovacuum_naptime: '5s' };

/** Not of tablespaces, commit times and replication origins: the load makes none. Logical messages come from the stop of a compute. */
const RESOURCE_MANAGERS =
  'XLOG Transaction Storage CLOG Database MultiXact RelMap Standby Heap2 Heap Btree Hash Gin Gist Sequence SPGist BRIN Generic';

/** Goes on with what the first life left: its prepared transaction, rows, maps, catalogs. */
const SECOND_LIFE = `
  select count(*) from pg_prepared_xacts; commit prepared 'four';
  update h set a = a + 1 where id % 3 = 0; delete from b where id % 4 = 0; delete from gi where id % 3 = 0;
  update l set v = v + 1; delete from sp where id % 5 = 0; delete from hs where id % 2 = 0;
  vacuum (freeze) h; vacuum b; vacuum gi; vacuum sp; vacuum hs; vacuum ge; vacuum br; vacuum freeze l;
  truncate wide; insert into wide select g, repeat(md5(g::text), 200), 's' from generate_series(1, 20) g;
  drop table deep, bl; drop database copied;
  vacuum full pg_attribute; reindex index pg_class_oid_index; select nextval('s') from generate_series(1, 50);
  create database second;
`;

describe('every page equals what stock recovery makes of the WAL', function () {
  this.timeout(600_000);
  let stack: TestStack;
  let url: string;
  let firstEnd: Lsn;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
    url = await stack.startCompute('main', { settings: SETTINGS });
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  /** End of WAL, and where it lies. Nobody may write. */
  async function endOfWal(): Promise<{ end: Lsn; walDirs: string[] }> {
    const client = createClient(SafekeeperServiceClient, (await stack.service('safekeeper-1')).grpcAddr);
    try {
      const { timelines } = await callUnary(client, client.listTimelines, { tenantId: '' });
      const { tenantId, timelineId, flushLsn } = onlyOne(timelines);
      const walDirs = ['data/safekeeper-1', 'storage/wal'].map((dir) => join(stack.repoDir, dir, tenantId, timelineId));
      return { end: lsnFromWire(flushLsn), walDirs };
    } finally {
      client.close();
    }
  }

  async function withReader<T>(act: (reader: StorageReader) => Promise<T>): Promise<T> {
    const { tenantId, timelineId } = await stack.compute('main');
    const { grpcAddr } = await stack.service('pageserver');
    using reader = new StorageReader(grpcAddr, parseTtid({ tenantId, timelineId }));
    return await act(reader);
  }

  async function check(end: Lsn, least: { pages: number; prepared: number }): Promise<void> {
    const { walDirs } = await endOfWal();
    const { differences, ...counts } = await withReader(async (reader) => {
      await reader.waitIngested(end, INGEST_TIMEOUT_MS);
      await using recovered = await recoverStock({ reader, initdbImage: INITDB_IMAGE, walDirs }, end);
      return await compareWithRecovered(reader, end, recovered.dataDir);
    });
    process.stderr.write(`      at ${formatLsn(end)} compared ${JSON.stringify(counts)}\n`);
    assert.equal(
      differences.length,
      0,
      `${differences.length} differences, such as\n${differences.slice(0, 30).join('\n')}`,
    );
    assert.ok(counts.pages >= least.pages, `only ${counts.pages} pages`);
    assert.equal(counts.preparedTransactions, least.prepared);
  }

  it('runs a load of everything until the compute is killed', async () => {
    const server = new ComputeServer(url);
    for (const load of LOADS) await load.run(server, 1);
    // What is open at the end never happened, but its pages did.
    await withClient(url, async (client) => {
      await client.query('begin; create table open_at_the_end as select generate_series(1, 5000) i; delete from h');
      const load = server.run('pgbench', [...server.connectArgs(), '-n', '-c', '4', '-T', '60', 'postgres']);
      const ended = load.then(
        () => assert.fail('pgbench survived'),
        () => undefined,
      );
      await sleep(2_000);
      stack.expectFaults();
      process.kill((await stack.compute('main')).pid, 'SIGKILL');
      await ended;
    });
    await stack.stopCompute('main', 'immediate');
    firstEnd = (await endOfWal()).end;
  });

  it('has the same pages at the end of the first life', async () => {
    // What the killed compute had not yet told to be committed is decided by its successor.
    url = await stack.startAgain('main');
    await check(firstEnd, { pages: 6_000, prepared: 1 });
  });

  it('runs a second life, on what the first one left, to an orderly stop', async () => {
    await new ComputeServer(url).psql(SECOND_LIFE);
    await runIngestLoad(new ComputeServer(url, 'second'));
    await stack.stopCompute('main');
  });

  it('has written records of all resource managers', async () => {
    const { end, walDirs } = await endOfWal();
    const info = await withReader((reader) => reader.timeline());
    const { initdbLsn, walSegSize } = info;
    const scratch = await mkdtemp(join(tmpdir(), 'neon-wal-'));
    try {
      const start = lsnFromWire(initdbLsn);
      copyWal(walDirs, scratch, { start, end, segSize: walSegSize });
      const range = ['--start', formatLsn(start), '--end', formatLsn(end)];
      const text = await pgTool('pg_waldump', '--stats', '--path', scratch, ...range);
      const counts = new Map(Array.from(text.matchAll(/^(\w+) +(\d+) /gm), ([, name, count]) => [name, Number(count)]));
      process.stderr.write(`      ${[...counts].map(([name, count]) => `${name} ${count}`).join(', ')}\n`);
      for (const name of RESOURCE_MANAGERS.split(' ')) assert.ok((counts.get(name) ?? 0) > 0, `no record of ${name}`);
    } finally {
      await rm(scratch, { recursive: true });
    }
  });

  it('has the same pages at the end of the second life', async () => {
    await check((await endOfWal()).end, { pages: 6_000, prepared: 1 });
  });

  it('would notice what differs', async () => {
    const { end, walDirs } = await endOfWal();
    await withReader(async (reader) => {
      await using recovered = await recoverStock({ reader, initdbImage: INITDB_IMAGE, walDirs }, end);
      const { differences } = await compareWithRecovered(reader, firstEnd, recovered.dataDir);
      for (const kind of [/block \d+: \d+ bytes differ/, /blocks in storage/, /exists only/, /^database/]) {
        assert.ok(
          differences.some((text) => kind.test(text)),
          `no difference of the kind ${kind}`,
        );
      }
    });
  });

  it('has the same pages at both ends after the page server was killed and has only its object store', async () => {
    const { restartCount } = await stack.service('pageserver');
    await withReader((reader) => reader.checkpoint());
    await stack.killService('pageserver');
    await stack.waitRestarted('pageserver', restartCount + 1);
    await check(firstEnd, { pages: 6_000, prepared: 1 });
    await check((await endOfWal()).end, { pages: 6_000, prepared: 1 });
  });
});

function onlyOne<T extends { ttid?: { tenantId: string; timelineId: string } | undefined; flushLsn: bigint }>(
  timelines: readonly T[],
): { tenantId: string; timelineId: string; flushLsn: bigint } {
  const [timeline] = timelines;
  assert.ok(timeline?.ttid !== undefined && timelines.length === 1, `${timelines.length} timelines`);
  return { ...timeline.ttid, flushLsn: timeline.flushLsn };
}
