/** Losing pieces under load: commits go on with a minority gone, stop without a quorum, and nothing acknowledged is lost. */
import { strict as assert } from 'node:assert';
import pg from 'pg';
import { query, sleep, TestStack, until, value } from '../harness/stack.js';

/** One session that commits numbers one after the other and remembers which were acknowledged. */
class Committer {
  acknowledged = 0;
  lastAt = 0;
  private stopped = false;
  private readonly running: Promise<void>;

  constructor(url: string, table: string) {
    this.running = this.loop(url, table);
  }

  private async loop(url: string, table: string): Promise<void> {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    await client.connect();
    for (let n = 1; !this.stopped; n++) {
      await client.query(`insert into ${table} values ($1)`, [n]);
      this.acknowledged = n;
      this.lastAt = Date.now();
    }
    await client.end();
  }

  /** Waits until more commits came back. */
  async progress(count: number, timeoutMs: number): Promise<void> {
    const goal = this.acknowledged + count;
    await until(`${count} more commits (at ${this.acknowledged})`, timeoutMs, async () => this.acknowledged >= goal);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
  }
}

describe('losing pieces under load', function () {
  this.timeout(240_000);
  let stack: TestStack;
  let url: string;

  before(async () => {
    stack = await TestStack.start();
    stack.expectFaults();
    url = await stack.startCompute('main');
    await query(
      url,
      'create table a (n int primary key); create table b (n int primary key); create table c (n int primary key)',
    );
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  async function pause(name: string): Promise<() => void> {
    const { pid } = await stack.service(name);
    process.kill(pid, 'SIGSTOP');
    return () => process.kill(pid, 'SIGCONT');
  }

  it('goes on committing when one of three safekeepers is killed, and that one catches up', async () => {
    const committer = new Committer(url, 'a');
    await committer.progress(50, 20_000);
    await stack.killService('safekeeper-2');
    await committer.progress(100, 20_000);
    await stack.waitRestarted('safekeeper-2', 1);
    await committer.progress(100, 20_000);
    await committer.stop();
    assert.equal(await value(url, 'select count(*) from a'), String(committer.acknowledged));
    await until('safekeeper-2 to catch up', 30_000, async () => {
      const positions = await Promise.all([1, 2, 3].map((id) => flushLsn(stack, `safekeeper-${id}`)));
      return positions.every((at) => at === positions[0]);
    });
  });

  it('stops committing without a quorum, loses nothing, and resumes', async () => {
    const committer = new Committer(url, 'b');
    await committer.progress(50, 20_000);
    const resume = [await pause('safekeeper-1'), await pause('safekeeper-3')];
    await sleep(1_500);
    const before = committer.acknowledged;
    await sleep(1_500);
    assert.equal(committer.acknowledged, before, 'a commit came back without a quorum');
    for (const go of resume) go();
    await committer.progress(50, 30_000);
    await stack.killService('safekeeper-1');
    await stack.killService('safekeeper-3');
    await committer.progress(50, 60_000);
    await committer.stop();
    assert.equal(await value(url, 'select count(*) from b'), String(committer.acknowledged));
  });

  it('resumes when the page server is killed', async () => {
    const committer = new Committer(url, 'c');
    await committer.progress(50, 20_000);
    const { restartCount } = await stack.service('pageserver');
    await stack.killService('pageserver');
    await stack.waitRestarted('pageserver', restartCount + 1);
    await committer.progress(50, 30_000);
    await committer.stop();
    await stack.stopCompute('main');
    url = await stack.startAgain('main');
    assert.equal(await value(url, 'select count(*) from c'), String(committer.acknowledged));
    assert.equal(
      await value(
        url,
        'select count(*) from generate_series(1, (select max(n) from c)) i where i not in (select n from c)',
      ),
      '0',
    );
  });

  it('leaves the page server where it was when a compute is started while that restarts', async () => {
    const { pgAddr, grpcAddr, restartCount } = await stack.service('pageserver');
    await stack.stopCompute('main');
    await stack.killService('pageserver');
    url = await stack.startAgain('main');
    const after = await stack.waitRestarted('pageserver', restartCount + 1);
    assert.deepEqual([after.pgAddr, after.grpcAddr], [pgAddr, grpcAddr]);
    assert.notEqual(await value(url, 'select count(*) from c'), '');
  });
});

async function flushLsn(stack: TestStack, name: string): Promise<string> {
  const { SafekeeperServiceClient } = await import('#gen/neon/safekeeper/v1/safekeeper.js');
  const { callUnary, createClient } = await import('#shared/rpc/client.js');
  const client = createClient(SafekeeperServiceClient, (await stack.service(name)).grpcAddr);
  try {
    const { timelines } = await callUnary(client, client.listTimelines, { tenantId: '' });
    return String(timelines[0]?.flushLsn);
  } finally {
    client.close();
  }
}
