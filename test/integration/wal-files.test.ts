/** What lies on the safekeepers is Postgres' WAL: pg_waldump reads it through, over several computes. */
import { strict as assert } from 'node:assert';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { formatLsn, lsnFromWire } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { pgTool, query, TestStack } from '../harness/stack.js';

const RESTARTS = 4;

describe('WAL on the safekeepers', function () {
  this.timeout(180_000);
  let stack: TestStack;

  before(async () => {
    stack = await TestStack.start();
    stack.expectFaults();
    await stack.startCompute('main');
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('is read through by pg_waldump after several compute restarts', async () => {
    for (let round = 0; round < RESTARTS; round++) {
      const url = await stack.startAgain('main');
      await query(
        url,
        `create table t${round} as select i, md5(i::text) from generate_series(1, ${5000 + round * 40000}) i`,
      );
      if (round % 2 === 0) await stack.stopCompute('main');
      else {
        process.kill((await stack.compute('main')).pid, 'SIGKILL');
        await stack.stopCompute('main', 'immediate');
      }
    }
    for (const id of [1, 2, 3]) await dumpAll(stack, `safekeeper-${id}`, RESTARTS);
  });
});

async function dumpAll(stack: TestStack, name: string, computeCount: number): Promise<void> {
  const client = createClient(SafekeeperServiceClient, (await stack.service(name)).grpcAddr);
  const { timelines } = await callUnary(client, client.listTimelines, { tenantId: '' });
  client.close();
  const timeline = timelines[0];
  assert.ok(timeline?.ttid, 'the safekeeper has no timeline');
  const dir = join(stack.repoDir, 'data', name, timeline.ttid.tenantId, timeline.ttid.timelineId);
  const start = formatLsn(lsnFromWire(timeline.timelineStartLsn));
  const end = formatLsn(lsnFromWire(timeline.flushLsn));
  const segments = (await readdir(dir)).filter((file) => /^[0-9A-F]{24}(\.partial)?$/.test(file));
  assert.ok(segments.length >= 1, `no segments in ${dir}`);
  // pg_waldump wants plain names: read through a directory of links.
  const { mkdtemp, rm, symlink } = await import('node:fs/promises');
  const links = await mkdtemp(join(stack.repoDir, 'waldump-'));
  try {
    for (const file of segments) await symlink(join(dir, file), join(links, file.replace('.partial', '')));
    const text = await pgTool('pg_waldump', '--path', links, '--start', start, '--end', end);
    const lines = text.trim().split('\n');
    const checkpoints = lines.filter((line) => /CHECKPOINT_SHUTDOWN/.test(line)).length;
    assert.ok(lines.length > 10_000, `only ${lines.length} records`);
    assert.ok(checkpoints >= computeCount, `${checkpoints} shutdown checkpoints for ${computeCount} computes`);
  } finally {
    await rm(links, { recursive: true });
  }
}
