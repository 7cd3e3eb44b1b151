/** Servers that do not write: hot standbys behind the safekeepers, and computes at a position of the past. Promotion. */
import { strict as assert } from 'node:assert';
import pg from 'pg';
import { SideCompute } from '../harness/side-compute.js';
import { pgTool, query, TestStack, until, value, withClient } from '../harness/stack.js';

const DIGEST = `select count(*), sum(hashtext(t::text)::bigint) from accounts t`;
const LSN = 'select pg_current_wal_flush_lsn()';

describe('computes that do not write', function () {
  this.timeout(600_000);
  let stack: TestStack;
  let url: string;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 3 });
    url = await stack.startCompute('main');
    await query(url, 'create extension neon');
    await query(
      url,
      `create table accounts (id int primary key, balance int, filler text) with (fillfactor = 70);
       insert into accounts select i, 0, repeat('f', 80) from generate_series(1, 20000) i; create index on accounts (balance)`,
    );
    await query(
      url,
      `create table unseen as select i, repeat('u', 100) t from generate_series(1, 20000) i; create index on unseen (i)`,
    );
    await query(url, 'vacuum analyze accounts, unseen');
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  async function caughtUp(replica: SideCompute): Promise<void> {
    const at = await value(url, LSN);
    await until(`the replica to reach ${at}`, 60_000, async () => {
      return (await value(replica.url, `select pg_last_wal_replay_lsn() >= '${at}'`)) === 'true';
    });
  }

  async function sameAnswers(replica: SideCompute): Promise<void> {
    await caughtUp(replica);
    const settings = 'set max_parallel_workers_per_gather = 0; set enable_seqscan = off;';
    for (const sql of [
      DIGEST,
      `${settings} select count(*), sum(balance) from accounts where balance <> 0`,
      `${settings} select sum(id) from accounts where id between 5000 and 9000`,
      'select relname, relfilenode, relpages from pg_class order by 1, 2',
    ]) {
      assert.deepEqual(await query(replica.url, sql), await query(url, sql), sql);
    }
  }

  it('stays at its position: reads the past, writes nothing, and cannot be promoted', async () => {
    await query(url, 'create table past as select i from generate_series(1, 1000) i');
    const at = await value(url, 'select pg_current_wal_insert_lsn()');
    await query(url, 'delete from past where i > 10; create table later (i int)');
    await query(url, 'vacuum past');
    await using old = await SideCompute.start(stack, { name: 'old', like: 'main', mode: { Static: at } });
    assert.equal(await value(old.url, 'select count(*) from past'), '1000');
    assert.equal(await value(old.url, "select to_regclass('later')"), 'null');
    assert.equal(await value(old.url, 'select count(*) from accounts'), '20000');
    for (const sql of [
      'insert into past values (0)',
      'create temp table t (i int)',
      'set transaction_read_only = off; vacuum',
    ]) {
      await assert.rejects(query(old.url, sql), /read-only|recovery/, sql);
    }
    await assert.rejects(query(old.url, 'select pg_promote()'), /cannot be promoted by SQL/);
    assert.equal(await value(url, 'select count(*) from past'), '10');
  });

  it('follows the primary, with transactions under way at its start, and leaves out redo of what it does not hold', async () => {
    await withClient(url, async (open) => {
      await open.query('begin');
      await open.query('update accounts set balance = 7 where id <= 100');
      await open.query('savepoint s');
      await open.query('update accounts set balance = 8 where id <= 50');
      const another = await value(url, 'update accounts set balance = 1 where id = 20000 returning id');
      assert.equal(another, '20000');
      await using replica = await SideCompute.start(stack, { name: 'follower', like: 'main', mode: 'Replica' });
      await caughtUp(replica);
      // Looked at before the end, so that hint bits could be set wrongly.
      assert.equal(await value(replica.url, 'select count(*) from accounts where balance in (7, 8)'), '0');
      await open.query('commit');
      await sameAnswers(replica);
      assert.equal(await value(replica.url, 'select count(*) from accounts where balance = 8'), '50');
      await assert.rejects(query(replica.url, 'update accounts set balance = 0'), /read-only/);

      const stat = (name: string) =>
        value(replica.url, `select value from neon.get_stats() where name = '${name}'`).then(Number);
      const [leftOut, remote] = [await stat('redo_left_out'), await stat('reads_remote')];
      await query(url, 'update unseen set t = i::text where i % 7 = 0');
      await query(url, 'delete from unseen where i % 5 = 0');
      // Splits of the index, and new pages of the table beside old ones.
      await query(url, "insert into unseen select i / 7, repeat('v', 100) from generate_series(1, 140000, 9) i");
      await caughtUp(replica);
      const [passedOver, fetched] = [(await stat('redo_left_out')) - leftOut, (await stat('reads_remote')) - remote];
      console.log(`      redo left out of ${passedOver} records, ${fetched} pages fetched`);
      assert.ok(passedOver > 1_000, `${passedOver}`);
      assert.ok(fetched < 20, `${fetched} pages`);
      await sameAnswers(replica);
      const sum = 'select count(*), sum(hashtext(t)) from unseen';
      assert.deepEqual(await query(replica.url, sum), await query(url, sum));
    });
  });

  it('makes restartpoints, and with them removes WAL, although redo was left out', async () => {
    await using replica = await SideCompute.start(stack, { name: 'points', like: 'main', mode: 'Replica' });
    await query(url, 'update unseen set t = t || i where i % 3 = 0');
    await query(url, 'checkpoint');
    await caughtUp(replica);
    assert.ok(
      Number(await value(replica.url, "select value from neon.get_stats() where name = 'redo_left_out'")) > 100,
    );
    const redo = 'select redo_lsn from pg_control_checkpoint()';
    await query(replica.url, 'checkpoint');
    assert.equal(await value(replica.url, redo), await value(url, redo));
  });

  it('gives the primary’s answers under load, with little memory, and after a restart', async () => {
    const small = { shared_buffers: '1MB', 'neon.file_cache_size_limit': '2MB', max_standby_streaming_delay: '60s' };
    let replica = await SideCompute.start(stack, { name: 'small', like: 'main', mode: 'Replica', settings: small });
    const client = new pg.Client({ connectionString: replica.url });
    await client.connect();
    let scans = 0;
    let running = true;
    const reading = (async () => {
      while (running) {
        // In one snapshot both ways of reading must agree.
        const { rows } = await client.query<{ a: string; b: string }>(
          `select (select sum(balance) from accounts) a, (select sum(balance) from accounts where id > 0) b`,
        );
        assert.equal(rows[0]?.a, rows[0]?.b);
        scans += 1;
      }
    })();
    const load = Promise.all(
      Array.from({ length: 3 }, (_, worker) =>
        withClient(url, async (writer) => {
          for (let n = 0; n < 400; n++) {
            const id = 1 + ((n * 7919 + worker * 104729) % 20000);
            await writer.query('update accounts set balance = balance + 1 where id between $1 and $1 + 3', [id]);
            if (n % 100 === 50 && worker === 0) await writer.query('vacuum accounts');
          }
        }),
      ),
    );
    await load;
    running = false;
    await reading;
    await client.end();
    assert.ok(scans > 0);
    await sameAnswers(replica);
    await replica.kill();
    replica = await SideCompute.start(stack, { name: 'small', like: 'main', mode: 'Replica', settings: small });
    await sameAnswers(replica);
    await replica.stop();
  });

  it('fails over to another safekeeper, and keeps rows of the primary for its queries', async () => {
    const settings = { hot_standby_feedback: 'on', wal_receiver_status_interval: '1s' };
    await using replica = await SideCompute.start(stack, { name: 'feedback', like: 'main', mode: 'Replica', settings });
    await caughtUp(replica);
    await withClient(replica.url, async (reader) => {
      await reader.query('begin isolation level repeatable read');
      const before = await reader.query(DIGEST);
      await until('the primary to hold xmin', 60_000, async () => {
        return (
          (await value(url, "select xmin is not null from pg_replication_slots where slot_name = 'walproposer'")) ===
          'true'
        );
      });
      await stack.killService('safekeeper-1');
      await query(url, 'update accounts set balance = balance + 5');
      await query(url, 'vacuum accounts');
      await caughtUp(replica);
      assert.deepEqual((await reader.query(DIGEST)).rows, before.rows);
      await reader.query('commit');
    });
    await sameAnswers(replica);
  });

  it('is promoted with nothing lost, and the old primary ends', async () => {
    const replica = await SideCompute.start(stack, { name: 'heir', like: 'main', mode: 'Replica' });
    let acknowledged = 0;
    await query(url, 'create table journal (n int primary key)');
    const writer = new pg.Client({ connectionString: url });
    writer.on('error', () => undefined);
    await writer.connect();
    const writing = (async () => {
      for (let n = 1; ; n++) {
        await writer.query('insert into journal values ($1)', [n]);
        acknowledged = n;
      }
    })().catch(() => undefined);
    await until('some commits', 60_000, async () => acknowledged >= 20);
    const startedAt = Date.now();
    const response = await fetch(`http://${replica.ready.http ?? ''}/promote`, { method: 'POST' });
    console.log(`      promoted in ${Date.now() - startedAt} ms`);
    assert.equal(response.status, 200, await response.clone().text());
    assert.match(((await response.json()) as { start_lsn: string }).start_lsn, /^[0-9A-F]+\/[0-9A-F]+$/);
    await writing;
    const found = Number(await value(replica.url, 'select count(*) from journal'));
    assert.ok(found >= acknowledged && found <= acknowledged + 1, `${found} rows, ${acknowledged} acknowledged`);
    await query(replica.url, 'insert into journal values (0)');
    assert.equal(await value(replica.url, 'select pg_is_in_recovery()'), 'false');
    await until('the old primary to be fenced', 60_000, async () => (await stack.compute('main')).state === 'failed');
    const { hostname, port, username } = new URL(replica.url);
    const server = ['-h', hostname, '-p', port, '-U', username, '-d', 'postgres'];
    await pgTool('pg_amcheck', ...server, '--install-missing', '--heapallindexed');
    await replica.stop();
  });
});
