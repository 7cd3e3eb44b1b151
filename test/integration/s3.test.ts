/**
 * Everything on a real S3 server: the server's own checks, the contract of our client, storages and snapshots of `neon`, and a whole stack
 * whose page server loses its disk while requests fail now and then. One server for all. NEON_LONG=1 (`npm run s3`): more keys, more load.
 */
import { strict as assert } from 'node:assert';
import { chmod, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openObjectStore } from '#shared/io/object-store.js';
import { FaultProxy } from '#shared/io/testing/fault-proxy.js';
import type { Fault } from '#shared/io/testing/fault-proxy.js';
import { createBucket, S3_CHECKS, S3Probe } from '#shared/io/testing/s3-checks.js';
import { credentialsEnv, useCredentials } from '#shared/io/testing/s3-credentials.js';
import { CONTRACT_PART_BYTES, describeObjectStore } from '#shared/io/testing/store-contract.js';
import { LONG } from '#shared/testing/long.js';
import { amcheck } from '../harness/plain.js';
import { commandLinesOf } from '../harness/processes.js';
import { restClient } from '../harness/rest.js';
import type { RestClient } from '../harness/rest.js';
import { Rgw, rgwMissing } from '../harness/rgw.js';
import { pgTool, query, TestStack, until, value } from '../harness/stack.js';
import { describeCommandTable } from './command-table.js';

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

  let exports = '';
  before(async () => {
    exports = await mkdtemp(join(tmpdir(), 'neon-s3-exports-'));
    await chmod(exports, 0o755);
  });
  after(() => rm(exports, { recursive: true, force: true }));
  describeCommandTable(
    'on S3',
    () => ({
      type: 's3',
      at: (name) => `s3://neon/table/${name}`,
      flags: ['--endpoint', rgw.endpoint],
      body: { endpoint: rgw.endpoint },
    }),
    () => exports,
  );

  describe('a stack that has no keys but those it is told', () => {
    const NO_KEYS = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined, AWS_SESSION_TOKEN: undefined };
    let stack: TestStack;
    let fresh: TestStack | undefined;
    let rest: RestClient;
    before(async () => {
      stack = await TestStack.start({ safekeepers: 1, tenant: false, env: NO_KEYS });
      rest = restClient((await stack.status()).restUrl);
    });
    after(async () => {
      await fresh?.[Symbol.asyncDispose]();
      await stack?.[Symbol.asyncDispose]();
    });
    afterEach(async function () {
      if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
    });

    const keys = () => ({ access_key_id: rgw.accessKey, secret_access_key: rgw.secretKey });
    /** The secret key comes by standard input. */
    const flags = () => ['--endpoint', rgw.endpoint, '--access-key-id', rgw.accessKey, '--secret-access-key', '-'];

    it('has databases on S3, detaches them and finds them again', async () => {
      const place = ['--type', 's3', '--path', 's3://neon/attached'];
      await assert.rejects(stack.neon('storage', 'attach', 'x', ...place, '--access-key-id', 'a'), /give both/);
      await stack.neonWith(rgw.secretKey, 'storage', 'attach', 'bucket', ...place, ...flags());
      await rest.put('/pgs', { name: 'app', storage_name: 'bucket' });
      const url = await stack.startAgain('app');
      await query(url, "create table place as select 'on s3' as name");
      await stack.stopCompute('app');
      assert.equal((await rest.delete<{ branch_count: number }>('/storages/bucket')).branch_count, 1);
      assert.deepEqual(JSON.parse(await readFile(join(stack.repoDir, 'credentials.json'), 'utf8')), {});
      const again = { name: 'again', type: 's3', path: 's3://neon/attached', endpoint: rgw.endpoint };
      await rest.put('/storages', { ...again, ...keys() });
      assert.equal(await value(await stack.startAgain('app'), 'select name from place'), 'on s3');
    });

    it('still has the keys after a crash of the daemon, and shows them to nobody', async () => {
      await stack.killDaemon();
      await stack.startDaemon();
      rest = restClient((await stack.status()).restUrl);
      assert.equal((await rest.get<{ state: string }>('/storages/again')).state, 'running');
      assert.equal(await value(await stack.startAgain('app'), 'select name from place'), 'on s3');
      const doctor = JSON.parse(await stack.neon('doctor', '--json')) as { verdict: string; subject: string }[];
      assert.equal(doctor.find(({ subject }) => subject === 'storage again')?.verdict, 'ok');
      await stack.neon('storage', 'scrub', 'again', '--deep');
      const shown = [
        ...(await commandLinesOf(stack.repoDir)),
        ...(await Promise.all((await stack.logPaths()).map((path) => readFile(path, 'utf8')))),
        ...(await Promise.all(
          ['catalog.json', 'config.json'].map((name) => readFile(join(stack.repoDir, name), 'utf8')),
        )),
        JSON.stringify(await rest.get('/status')) + JSON.stringify(await rest.get('/storages')),
      ];
      assert.ok(shown.length > 8);
      for (const text of shown) assert.ok(!text.includes(rgw.secretKey), 'the secret key is shown');
      assert.equal((await stat(join(stack.repoDir, 'credentials.json'))).mode & 0o777, 0o600);
    });

    it('pushes a snapshot to S3, and a fresh stack pulls it from there', async () => {
      await rest.put('/snapshots', { name: 'shot', branch_name: 'app' });
      const to = 's3://neon/images';
      await stack.neonWith(rgw.secretKey, 'snapshot', 'push', 'shot', '--to', to, ...flags());
      fresh = await TestStack.start({ safekeepers: 1, tenant: false, env: NO_KEYS });
      const client = restClient((await fresh.status()).restUrl);
      const body = { action: 'pull', from: to, endpoint: rgw.endpoint, ...keys() };
      const { id } = await client.post<{ id: string }>('/snapshots/shot/actions', body);
      const ended = await until('the pull to end', 120_000, async () => {
        const operation = await client.get<{ state: string; error: string }>(`/operations/${id}`);
        return operation.state === 'running' ? null : operation;
      });
      assert.equal(ended.state, 'done', ended.error);
      assert.equal(await value(await fresh.startCompute('copy', { branch: 'app' }), 'select name from place'), 'on s3');
    });
  });

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
      await stack.stopCompute('main');
      url = await stack.startAgain('main');
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
