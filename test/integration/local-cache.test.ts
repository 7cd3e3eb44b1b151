/**
 * The local files stay within their limit, and giving pages up never changes an answer: a page rebuilt from WAL lacks the command
 * ids by which a running transaction knows which of its own rows it may see.
 */
import { strict as assert } from 'node:assert';
import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { amcheck } from '../harness/plain.js';
import { query, TestStack, until, value, withClient } from '../harness/stack.js';

const LIMIT_MB = 4;
const MIB = 1 << 20;

/** Disk space of a directory's files, holes not counted. */
async function diskBytes(dir: string): Promise<number> {
  let bytes = 0;
  for await (const entry of await opendir(dir, { recursive: true })) {
    if (!entry.isFile()) continue;
    const info = await stat(join(entry.parentPath, entry.name)).catch(() => null);
    bytes += (info?.blocks ?? 0) * 512;
  }
  return bytes;
}

describe('the local cache of a compute', function () {
  this.timeout(300_000);
  let stack: TestStack;
  let url: string;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
    const settings = { shared_buffers: '1MB', 'neon.file_cache_size_limit': `${LIMIT_MB}MB` };
    url = await stack.startCompute('main', { settings });
    await query(url, 'create extension neon');
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  const freed = async () => Number(await value(url, "select value from neon.stats where name = 'pages_freed'"));

  /** Waits for the worker, while other transactions come and go. */
  async function waitForFreeing(): Promise<void> {
    const cached = "select value from neon.stats where name = 'cached_bytes'";
    await until('the cache to shrink', 60_000, async () => Number(await value(url, cached)) <= LIMIT_MB * MIB);
  }

  it('keeps the disk near the limit while tables ten times as large are written and read', async () => {
    await query(url, 'create table big (id int, filler text)');
    for (let part = 0; part < 4; part++) {
      await query(url, `insert into big select i, repeat('x', 900) from generate_series(1, 10000) i`);
    }
    await query(url, 'update big set id = id + 1 where id % 5 = 0');
    assert.deepEqual(await query(url, 'select count(*), sum(id), sum(length(filler)) from big'), [
      ['40000', '200028000', '36000000'],
    ]);
    await waitForFreeing();
    assert.ok((await freed()) > 4000);
    const bytes = await diskBytes(join(await value(url, 'show data_directory'), 'base'));
    // Free space maps, visibility maps and initialisation forks come on top.
    assert.ok(bytes < (LIMIT_MB + 4) * MIB, `${bytes} bytes on disk`);
  });

  it('gives a transaction its own rows back as it left them', async () => {
    await query(url, 'create table own (a int, filler text)');
    await query(
      url,
      `begin; insert into own select i, repeat('x', 200) from generate_series(1, 30000) i;
       update own set a = a + 1; update own set a = a + 1; commit`,
    );
    assert.deepEqual(await query(url, 'select count(*), sum(a) from own'), [['30000', '450075000']]);
  });

  it('shows an open cursor what it saw when it was opened', async () => {
    await query(url, 'create table seen (a int, filler text)');
    await withClient(url, async (client) => {
      await client.query('begin');
      await client.query(`insert into seen select i, repeat('y', 300) from generate_series(1, 5000) i`);
      await client.query('declare c cursor for select * from seen');
      await client.query('delete from seen');
      await client.query(`insert into seen select -i, repeat('z', 300) from generate_series(1, 20000) i`);
      assert.equal((await client.query('move all in c')).rowCount, 5000);
      await client.query('commit');
    });
    await waitForFreeing();
    assert.equal(await value(url, 'select count(*) from seen'), '20000');
  });

  it('keeps sequences, and unlogged tables', async () => {
    await query(url, 'create sequence numbers; create unlogged table notes as select generate_series(1, 5000) i');
    await query(url, "select nextval('numbers'); checkpoint");
    const before = await freed();
    await query(url, `create table flood as select repeat('f', 900) from generate_series(1, 10000)`);
    await waitForFreeing();
    assert.ok((await freed()) > before);
    assert.equal(await value(url, "select nextval('numbers')"), '2');
    assert.equal(await value(url, 'select count(*) from notes'), '5000');
  });

  it('leaves heaps and indexes whole', async () => {
    await query(url, 'create index on own (a)');
    await amcheck(url);
  });
});
