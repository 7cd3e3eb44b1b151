/** The life of a database whose compute is thrown away: everything acknowledged is there afterwards, and equals a plain Postgres. */
import { strict as assert } from 'node:assert';
import { amcheck, assertSameAnswers, assertSameDump, runAll, startPlain } from '../harness/plain.js';
import type { Plain } from '../harness/plain.js';
import { pgTool, query, TestStack, value, withClient } from '../harness/stack.js';

const STATEMENTS = [
  'create table account (id bigint primary key, owner text not null, balance numeric(12,2), tags int[], born timestamptz)',
  `insert into account select i, 'owner ' || i % 9973, i % 1000, array[i % 7, i % 11], timestamptz '2020-01-01 00:00+00' + i * interval '1 minute'
   from generate_series(1, 300000) i`,
  'create index account_owner on account (owner)',
  'create index account_balance on account (balance) where balance > 500',
  'create table document (id serial primary key, body text, parts jsonb)',
  `insert into document (body, parts) select repeat(md5(i::text), 200), jsonb_build_object('n', i) from generate_series(1, 2000) i`,
  'update account set balance = balance + 1 where id % 10 = 0',
  'delete from account where id % 17 = 0',
  "begin; savepoint a; insert into document (body) values ('kept'); release a; savepoint b; delete from document; rollback to b; commit",
  'create view rich as select owner, sum(balance) total from account group by owner having sum(balance) > 10000',
  'create sequence ticket cache 1',
  "select nextval('ticket') from generate_series(1, 100)",
  'vacuum (analyze) account',
  'create table moved (like account including all)',
  'insert into moved select * from account where id % 3 = 0',
  'truncate moved',
  'insert into moved select * from account where id % 5 = 0',
  'vacuum full moved',
  "alter table account add column note text default 'none'",
];

const QUERIES = [
  'select count(*), sum(balance), min(id), max(id) from account',
  "select count(*) from account where owner = 'owner 77'",
  'select count(*), sum(length(body)) from document',
  'select * from rich order by owner limit 20',
  'select count(*), sum(id) from moved',
  'select last_value from ticket',
  'select relname, relkind, relnatts from pg_class where relnamespace = 2200 order by relname',
];

describe('a database outlives its compute', function () {
  this.timeout(300_000);
  let stack: TestStack;
  let plain: Plain;
  let url: string;

  before(async () => {
    [stack, plain] = await Promise.all([TestStack.start(), startPlain()]);
    url = await stack.startCompute('main');
  });
  after(async () => {
    await stack?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  // WAL reserves up to 32 values of a sequence ahead; a compute begins behind them, as a plain server does after a crash.
  async function levelSequences(): Promise<void> {
    const level = ["select setval('ticket', 5000)", "select setval('document_id_seq', 5000)"];
    for (const at of [url, plain.url]) await runAll(at, level);
  }

  it('runs the same statements as a plain Postgres, with equal answers', async () => {
    await Promise.all([runAll(url, STATEMENTS), runAll(plain.url, STATEMENTS)]);
    await assertSameAnswers(url, plain.url, QUERIES);
  });

  it('keeps every acknowledged commit when the compute is killed and its directory deleted', async () => {
    await pgTool('pgbench', '-i', '-q', '-s', '2', '-d', url);
    const load = pgTool('pgbench', '-c', '4', '-T', '600', '-n', '-d', url).catch((error: Error) => error.message);
    const acknowledged = await withClient(url, async (client) => {
      await client.query('create table journal (n int primary key)');
      let n = 0;
      const end = Date.now() + 5_000;
      while (Date.now() < end) {
        await client.query('insert into journal values ($1)', [n + 1]);
        n += 1;
      }
      return n;
    });
    const { pid } = await stack.compute('main');
    stack.expectFaults();
    process.kill(pid, 'SIGKILL');
    assert.match(await load, /connection|server closed/);
    await stack.stopCompute('main', 'immediate');
    url = await stack.startAgain('main');
    assert.equal(await value(url, 'select count(*) from journal'), String(acknowledged));
    assert.ok(acknowledged > 10, `only ${acknowledged} commits in 5 s`);
    const sums = await query(
      url,
      `select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches),
              (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)`,
    );
    assert.equal(new Set(sums[0]).size, 1, `the sums differ: ${sums[0]?.join(' ')}`);
  });

  it('finds nothing wrong with amcheck afterwards', async () => {
    await amcheck(url);
  });

  it('dumps the same as the plain Postgres', async () => {
    await runAll(url, [
      'drop table journal, pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history',
      'drop extension if exists amcheck',
    ]);
    await levelSequences();
    await assertSameAnswers(url, plain.url, QUERIES);
    await assertSameDump(url, plain.url);
  });

  it('starts again after an orderly stop of everything', async () => {
    await stack.stopCompute('main');
    await stack.stopDaemon();
    await stack.startDaemon();
    url = await stack.startAgain('main');
    await levelSequences();
    await assertSameDump(url, plain.url);
  });
});
