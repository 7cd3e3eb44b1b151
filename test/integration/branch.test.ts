/** Branches: a second history from a point in the past; neither sees the other's writes. */
import { strict as assert } from 'node:assert';
import { amcheck } from '../harness/plain.js';
import { query, TestStack, value, withClient } from '../harness/stack.js';

describe('branches', function () {
  this.timeout(180_000);
  let stack: TestStack;
  let main: string;

  before(async () => {
    stack = await TestStack.start();
    main = await stack.startCompute('main');
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('shows the past before a DELETE, and keeps the histories apart', async () => {
    const lsn = await withClient(main, async (client) => {
      await client.query('create table item (id int primary key, text text)');
      await client.query("insert into item select i, 'item ' || i from generate_series(1, 10000) i");
      const at = await client.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
      await client.query('delete from item where id > 10');
      await client.query('vacuum item');
      return at.rows[0]?.lsn ?? '';
    });
    await stack.neon('branch', 'create', 'past', '--from', 'main', '--lsn', lsn);
    const past = await stack.startCompute('past');
    assert.equal(await value(past, 'select count(*) from item'), '10000');
    assert.equal(await value(main, 'select count(*) from item'), '10');
    await query(past, "update item set text = 'past'");
    await query(main, "insert into item values (20000, 'main')");
    assert.deepEqual(await query(past, 'select count(*), min(text), max(text) from item'), [['10000', 'past', 'past']]);
    assert.equal(await value(main, "select count(*) from item where text = 'past'"), '0');
    await amcheck(past);
    await amcheck(main);
  });

  it('branches at the head with everything committed so far, also from a branch', async () => {
    await query(main, "insert into item values (30000, 'last')");
    await stack.neon('branch', 'create', 'copy');
    const copy = await stack.startCompute('copy');
    assert.equal(await value(copy, 'select text from item where id = 30000'), 'last');
    await stack.neon('branch', 'create', 'past/child', '--from', 'past');
    const child = await stack.startCompute('child', { branch: 'past/child' });
    assert.equal(await value(child, "select count(*) from item where text = 'past'"), '10000');
  });

  it('survives a restart of everything on every branch', async () => {
    await stack.stopDaemon();
    await stack.startDaemon();
    main = await stack.startAgain('main');
    const past = await stack.startAgain('past');
    const child = await stack.startAgain('child');
    assert.equal(await value(main, 'select count(*) from item'), '12');
    assert.equal(await value(past, 'select count(*) from item'), '10000');
    assert.equal(await value(child, 'select count(*) from item'), '10000');
  });

  it('refuses what makes no sense, saying why', async () => {
    await assert.rejects(stack.neon('branch', 'create', 'copy'), /exists already/);
    await assert.rejects(stack.neon('branch', 'create', 'x', '--from', 'nowhere'), /no branch "nowhere"/);
    await assert.rejects(stack.neon('branch', 'create', 'x', '--lsn', '0/100'), /LSN/i);
    await stack.neon('pg', 'create', 'second', '--branch', 'main');
    await assert.rejects(stack.neon('pg', 'start', 'second'), /runs on branch "main" already/);
  });
});
