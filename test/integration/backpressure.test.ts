/** Writers wait for a page server that lags; readers do not; nothing is stuck when it comes back. */
import { strict as assert } from 'node:assert';
import { join } from 'node:path';
import pg from 'pg';
import { FeedbackFile } from '../../services/compute-ctl/io/feedback-file.js';
import { query, TestStack, until, value } from '../harness/stack.js';

const MB = 1 << 20;
const LIMIT_MB = 16;
/** What may come on top: WAL that was not flushed when writers passed the last gate (wal_buffers, 4 MB), and a piece for each of them. */
const OVERSHOOT_MB = 8;
/** What the server writes by itself, such as which transactions run. */
const IDLE_BYTES_MAX = 64 << 10;
const INSERTED = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
const WRITTEN =
  'select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), received_lsn)::bigint from neon.backpressure_lsns()';

describe('backpressure', function () {
  this.timeout(400_000);
  let stack: TestStack;
  let url: string;
  let throttling: FeedbackFile;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
    url = await stack.startCompute('main', { settings: { max_replication_write_lag: `${LIMIT_MB}MB` } });
    throttling = FeedbackFile.open(join(stack.repoDir, 'computes/main/pgdata'));
    await query(url, 'create extension neon');
    await query(url, 'create table seen as select i from generate_series(1, 1000) i');
    await query(url, 'create table a (t text); create table b (t text); create table c (i int, t text)');
    await query(url, "insert into c select i, '' from generate_series(1, 200000) i");
  });
  after(async () => {
    throttling?.close();
    await stack?.[Symbol.asyncDispose]();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  /** Starts a statement that writes more than the limit, in a session of its own. */
  function writer(sql: string): { pid: Promise<number>; done: Promise<void>; cancelled: Promise<string> } {
    const client = new pg.Client({ connectionString: url });
    const pid = client.connect().then(async () => {
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      return rows[0]?.pid ?? 0;
    });
    const done = pid.then(() => client.query(sql)).then(() => client.end());
    const cancelled = done.then(
      () => 'finished',
      async (error: unknown) => {
        await client.end();
        return String(error);
      },
    );
    return { pid, done, cancelled };
  }

  /** What compute_ctl shows as its metric. */
  async function throttledWriters(): Promise<number> {
    return throttling.throttling().writersNow;
  }

  it('holds writers at the limit while the page server does not take WAL, and lets them go when it does', async () => {
    const { pid: pageserver } = await stack.service('pageserver');
    // What is read below, catalogs included, must be here already: only writers are tested against a page server that is away.
    await query(url, `select count(*) from seen; ${WRITTEN}; select neon.backpressure_throttling_time()`);
    await query(url, 'select pg_cancel_backend(pg_backend_pid() + 1000000)');
    await query(
      url,
      "insert into a select repeat('x', 500); copy b from program 'echo x'; update c set t = '' where i = 1",
    );
    process.kill(pageserver, 'SIGSTOP');
    const writers = [
      writer("insert into a select repeat('x', 500) from generate_series(1, 100000)"),
      writer("copy b from program 'yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | head -n 400000'"),
      writer("update c set t = repeat('y', 200)"),
    ];
    try {
      await until('all writers to wait', 60_000, async () => (await throttledWriters()) === writers.length);
      const pid = await writers[2]?.pid;
      // The clock of their waiting is added up when they go on: cancel one, which must end at once.
      await query(url, `select pg_cancel_backend(${pid})`);
      assert.match((await writers[2]?.cancelled) ?? '', /canceling statement due to user request/);
      const inserted = Number(await value(url, INSERTED));
      const lagMb = Number(await value(url, WRITTEN)) / MB;
      assert.ok(lagMb >= LIMIT_MB && lagMb < LIMIT_MB + OVERSHOOT_MB, `${lagMb} MB ahead`);
      assert.equal(await value(url, 'select count(*) from seen'), '1000', 'readers go on');
      assert.ok(Number(await value(url, 'select neon.backpressure_throttling_time()')) > 0);
      assert.equal(await throttledWriters(), 2);
      const more = Number(await value(url, INSERTED)) - inserted;
      assert.ok(more < IDLE_BYTES_MAX, `${more} bytes were written while all wait`);
    } finally {
      process.kill(pageserver, 'SIGCONT');
    }
    await Promise.all(writers.slice(0, 2).map((each) => each.done));
    assert.equal(await value(url, 'select count(*) from a'), '100001');
    assert.equal(await value(url, 'select count(*) from b'), '400001');
    assert.equal(await throttledWriters(), 0);
  });

  it('limits by what is on the page server’s disk and in its object store, too, and not when switched off', async () => {
    const set = (name: string, mb: number) =>
      query(url, `alter system set neon.max_replication_${name}_lag = '${mb}MB'`).then(() =>
        query(url, 'select pg_reload_conf()'),
      );
    // The page server flushes at a distance far above one megabyte, so this limit is passed soon, and for long.
    await set('flush', 1);
    await until(
      'the new limit to be in force',
      10_000,
      async () => (await value(url, 'show neon.max_replication_flush_lag')) === '1MB',
    );
    const blocked = writer("insert into a select repeat('x', 500) from generate_series(1, 20000)");
    await until('the writer to wait', 60_000, async () => (await throttledWriters()) === 1);
    await set('flush', -1);
    await blocked.done;
  });
});
