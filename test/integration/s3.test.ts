/**
 * Everything on a real S3 server: the server's own checks, the contract of our client, and a whole stack whose page server loses its disk
 * while requests fail now and then. One server for all. NEON_LONG=1 (`npm run s3`): more keys, more load.
 */
import { strict as assert } from 'node:assert';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openObjectStore } from '#shared/io/object-store.js';
import { FaultProxy } from '#shared/io/testing/fault-proxy.js';
import type { Fault } from '#shared/io/testing/fault-proxy.js';
import { createBucket, S3_CHECKS, S3Probe } from '#shared/io/testing/s3-checks.js';
import { credentialsEnv, useCredentials } from '#shared/io/testing/s3-credentials.js';
import { CONTRACT_PART_BYTES, describeObjectStore } from '#shared/io/testing/store-contract.js';
import { amcheck } from '../harness/plain.js';
import { Rgw, rgwMissing } from '../harness/rgw.js';
import { pgTool, query, TestStack, value } from '../harness/stack.js';

const LONG = process.env['NEON_LONG'] === '1';
const MANY_KEYS = LONG ? 1100 : 120;

/** What the RADOS gateway of Debian 12 (16.2) does not do; nothing of ours needs it. */
const NOT_DONE_BY_RGW = [
  'put of a stream with known length and trailing checksum (aws-chunked)',
  'put If-Match with the right ETag',
];

describe('on a real S3 server', function () {
  this.timeout(600_000);
  const missing = rgwMissing();
  if (missing !== null) {
    it(`is skipped: ${missing}`);
    return;
  }
  let rgw: Rgw;
  let restore: () => void;
  before(async () => {
    rgw = await Rgw.start();
    restore = useCredentials(rgw);
    await createBucket(rgw, 'neon');
  });
  after(async () => {
    restore?.();
    await rgw?.[Symbol.asyncDispose]();
  });

  describe('the server', () => {
    let probe: S3Probe;
    before(() => {
      probe = new S3Probe(rgw, MANY_KEYS);
    });
    for (const { name, run } of S3_CHECKS) {
      const isDone = !NOT_DONE_BY_RGW.includes(name);
      it(isDone ? name : `does not do: ${name}`, () => (isDone ? run(probe) : assert.rejects(run(probe))));
    }
  });

  describeObjectStore(
    'S3 client on the RADOS gateway',
    () => openObjectStore(`s3://neon/contract?endpoint=${rgw.endpoint}`, { partBytes: CONTRACT_PART_BYTES }),
    MANY_KEYS,
  );

  describe('a stack', () => {
    let proxy: FaultProxy;
    let stack: TestStack;
    before(async () => {
      proxy = await FaultProxy.start(rgw.endpoint);
      const remoteStorage = `s3://neon/stack?endpoint=${proxy.endpoint}`;
      stack = await TestStack.start({ safekeepers: 1, remoteStorage, env: credentialsEnv(rgw) });
    });
    after(async () => {
      await stack?.[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
    });
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
    });

    /** Every seventh request fails in one way or another; none twice in a row. */
    function disturb(): void {
      const faults: Fault[] = [
        { kind: 'status', status: 503 },
        { kind: 'reset', when: 'after' },
        { kind: 'truncate' },
        { kind: 'status', status: 500 },
        { kind: 'reset', when: 'before' },
        { kind: 'slow', ms: 200 },
        { kind: 'damage' },
      ];
      proxy.choose = ({ number }) => (number % 7 === 0 ? faults[(number / 7) % faults.length]! : { kind: 'none' });
    }

    const layerFiles = async () =>
      (await readdir(join(stack.repoDir, 'data/pageserver'), { recursive: true })).filter((path) =>
        /__[0-9A-F]{16}.*-[0-9a-f]{8}$/.test(path),
      );

    it('loses the page server and its disk under load, and nothing else', async () => {
      let url = await stack.startCompute('main');
      disturb();
      await pgTool('pgbench', '-i', '-q', '-s', LONG ? '10' : '1', '-d', url);
      await stack.neon('branch', 'create', 'side');
      const load = pgTool('pgbench', '-c', '2', '-T', LONG ? '60' : '6', '-n', '-d', url);
      await checkpoint();
      await stack.loseDisk('pageserver');
      await checkpoint();
      await load;
      await stack.loseDisk('pageserver');
      await stack.neon('pg', 'stop', 'main');
      url = await stack.neon('pg', 'start', 'main');
      const sums = await query(
        url,
        `select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches),
                (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)`,
      );
      assert.equal(new Set(sums[0]).size, 1, `the sums differ: ${sums[0]?.join(' ')}`);
      await amcheck(url);
      const side = await stack.startCompute('side', { branch: 'side' });
      assert.equal(await value(side, 'select count(*) from pgbench_history'), '0');
      assert.ok((await layerFiles()).length > 0, 'layers come back when they are read');
      assert.ok(proxy.seen.length > 20, `${proxy.seen.length} requests`);
    });

    async function checkpoint(): Promise<void> {
      const { httpAddr } = await stack.service('pageserver');
      const { tenantId, timelineId } = await stack.compute('main');
      const url = `http://${httpAddr}/v1/tenant/${tenantId}/timeline/${timelineId}/checkpoint`;
      const answer = await fetch(url, { method: 'PUT' });
      assert.equal(answer.status, 200, await answer.text());
    }
  });
});
