/** What the extension's workload leaves behind, built with hardly any cache, is there in the next life of the compute. */
import { strict as assert } from 'node:assert';
import { resolve } from 'node:path';
import { amcheck, runAll } from '../harness/plain.js';
import { pgTool, TestStack, value } from '../harness/stack.js';

const WORKLOAD = resolve(import.meta.dirname, '../../services/compute-ctl/extension/testing/workload.sql');
const ANSWERS = [
  "select count(*) || ' ' || sum(v) || ' ' || sum(hashtext(s)) from items",
  "select count(*) || ' ' || sum(hashtext(b)) from wide",
  "select count(*) || ' ' || sum(hashtext(parts::text)) from parts",
  "select count(*) || ' ' || sum(a) from own",
  'select count(*) from cut',
  'select count(*) from unlogged',
  'select md5(lo_get(id)) from large',
  "select pg_relation_size('items') || ' ' || pg_relation_size('seen')",
];

describe('the storage manager over several lives of a compute', function () {
  this.timeout(300_000);
  let stack: TestStack;
  const settings = {
    shared_buffers: '1MB',
    'neon.file_cache_size_limit': '0',
    'neon.relsize_hash_size': '64',
  };

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
    stack.expectFaults();
  });
  after(async () => {
    await stack?.[Symbol.asyncDispose]();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  async function answers(url: string): Promise<string[]> {
    const found: string[] = [];
    for (const sql of ANSWERS) found.push(await value(url, sql));
    return found;
  }

  it('finds what it wrote', async () => {
    let url = await stack.startCompute('main', { settings });
    await pgTool('psql', url, '-qX', '-v', 'ON_ERROR_STOP=1', '-f', WORKLOAD);
    const before = await answers(url);
    await stack.stopCompute('main');
    url = await stack.startAgain('main');
    assert.deepEqual(await answers(url), before);
    await amcheck(url);
  });

  it('grows what was truncated, in a further life', async () => {
    const url = (await stack.compute('main')).url;
    await runAll(url, [
      "insert into cut select i, repeat('again', 100) from generate_series(1, 20000) i",
      'vacuum cut',
      'delete from cut where id > 50',
      'vacuum cut',
      'insert into cut values (0, null)',
    ]);
    const before = await answers(url);
    process.kill((await stack.compute('main')).pid, 'SIGKILL');
    await stack.stopCompute('main').catch(() => undefined);
    const again = await stack.startAgain('main');
    assert.deepEqual(await answers(again), before);
    await amcheck(again);
  });
});
