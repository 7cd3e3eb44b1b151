/** A compute with hardly any memory and an empty disk: every page comes from the page server, and the answers are a plain Postgres'. */
import { strict as assert } from 'node:assert';
import { amcheck, assertSameAnswers, runAll, startPlain } from '../harness/plain.js';
import type { Plain } from '../harness/plain.js';
import { TestStack } from '../harness/stack.js';

const FILL = [
  'create table big (id int primary key, k int, filler text)',
  'insert into big select i, (i * 7919) % 100003, repeat(chr(97 + i % 26), 300) from generate_series(1, 150000) i',
  'create index big_k on big (k)',
  'vacuum analyze big',
];
const CHANGE = [
  'update big set k = k + 1 where id % 3 = 0',
  'delete from big where id % 50 = 7',
  "insert into big select i, i, 'new' from generate_series(200001, 210000) i",
  "set enable_seqscan = off; update big set filler = filler || '!' where k between 1000 and 3000",
];
const QUERIES = [
  'select count(*), sum(id::bigint), sum(k::bigint), sum(length(filler)) from big',
  "select md5(string_agg(id || filler, ',' order by id)) from big where id % 97 = 0",
  'set enable_seqscan = off; set enable_bitmapscan = off; select sum(id) from big where k between 5000 and 6000',
  'select k, count(*) from big group by k order by 2 desc, 1 limit 10',
];

describe('a compute with 1 MB of buffers', function () {
  this.timeout(300_000);
  let stack: TestStack;
  let plain: Plain;
  const settings = { shared_buffers: '1MB', 'neon.file_cache_size_limit': '0' };

  before(async () => {
    [stack, plain] = await Promise.all([TestStack.start({ safekeepers: 1 }), startPlain()]);
  });
  after(async () => {
    await stack?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('answers as a plain Postgres, before and after it was thrown away', async () => {
    let url = await stack.startCompute('main', { settings });
    await Promise.all([runAll(url, FILL), runAll(plain.url, FILL)]);
    await stack.stopCompute('main');
    url = await stack.startAgain('main');
    await assertSameAnswers(url, plain.url, QUERIES);
    await Promise.all([runAll(url, CHANGE), runAll(plain.url, CHANGE)]);
    await assertSameAnswers(url, plain.url, QUERIES);
    await stack.stopCompute('main');
    url = await stack.startAgain('main');
    await assertSameAnswers(url, plain.url, QUERIES);
    await amcheck(url);
  });

  it('really read its pages from the page server', async () => {
    const { httpAddr } = await stack.service('pageserver');
    const metrics = await (await fetch(`http://${httpAddr}/metrics`)).text();
    const served = [...metrics.matchAll(/^pageserver_pagestream_requests_total\{[^}]*getpage[^}]*\} (\d+)/gm)].map(
      (match) => Number(match[1]),
    );
    const total = served.reduce((sum, count) => sum + count, 0);
    assert.ok(total > 20_000, `the page server served only ${total} pages`);
  });
});
