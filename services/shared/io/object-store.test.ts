/** Both object stores keep the contract; the S3 fake keeps S3's; and the S3 client stands what networks do. */
import { strict as assert } from 'node:assert';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { errorKind, errorText } from '../core/errors.js';
import { pauseLimitMs } from './object-retry.js';
import { openObjectStore } from './object-store.js';
import type { ObjectStore, RemoteOptions } from './object-store.js';
import { FaultProxy } from './testing/fault-proxy.js';
import type { Fault } from './testing/fault-proxy.js';
import { useCredentials } from './testing/s3-credentials.js';
import { createBucket, S3_CHECKS, S3Probe } from './testing/s3-checks.js';
import { S3Fake } from './testing/s3-fake.js';
import { CONTRACT_PART_BYTES, describeObjectStore } from './testing/store-contract.js';

const PATIENCE: RemoteOptions = { pauseMinMs: 1, pauseMaxMs: 5, idleTimeoutMs: 20_000, partBytes: CONTRACT_PART_BYTES };
/** For what must run into it. */
const HASTE_MS = 300;

describe('object stores', () => {
  let dir: string;
  let fake: S3Fake;
  let restore: () => void;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'neon-store-'));
    fake = await S3Fake.start({ pageMax: 100 });
    restore = useCredentials(fake);
    await createBucket(fake, 'store');
  });
  after(async () => {
    restore?.();
    await fake?.[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  describe('S3 fake', () => {
    let probe: S3Probe;
    before(() => {
      probe = new S3Probe(fake, 120);
    });
    for (const { name, run } of S3_CHECKS) it(name, () => run(probe));
    it('is held to 29 checks', () => assert.equal(S3_CHECKS.length, 29));
  });

  describeObjectStore('local directory', () => openObjectStore(`file://${dir}/store`), 40);
  describeObjectStore(
    'S3 client on the fake',
    () => openObjectStore(`s3://store/some/prefix?endpoint=${fake.endpoint}`, PATIENCE),
    120,
  );

  it('says what is wrong with bucket and credentials, at once', async () => {
    const elsewhere = await openObjectStore(`s3://nowhere/x?endpoint=${fake.endpoint}`, PATIENCE);
    await assert.rejects(
      elsewhere.get('a'),
      (e) => errorKind(e) === 'precondition' && /no such bucket/.test(errorText(e)),
    );
    await assert.rejects(elsewhere.list(''), (e) => errorKind(e) === 'precondition');
    const back = useCredentials({ ...fake, accessKey: fake.accessKey, secretKey: 'wrong' });
    try {
      const stranger = await openObjectStore(`s3://store/x?endpoint=${fake.endpoint}`, PATIENCE);
      await assert.rejects(
        stranger.list(''),
        (e) => errorKind(e) === 'precondition' && /credentials/.test(errorText(e)),
      );
    } finally {
      back();
    }
  });

  describe('S3 client under faults', () => {
    const bytes = randomBytes(200_000);
    let proxy: FaultProxy;
    let patient: ObjectStore;
    let hasty: ObjectStore;
    let store: ObjectStore;
    let retries: number;
    before(async () => {
      proxy = await FaultProxy.start(fake.endpoint);
      const options = { ...PATIENCE, onRetry: () => retries++ };
      const url = `s3://store/faults?endpoint=${proxy.endpoint}`;
      patient = await openObjectStore(url, options);
      hasty = await openObjectStore(url, { ...options, idleTimeoutMs: HASTE_MS });
      store = patient;
      await store.put('whole', bytes);
      await writeFile(join(dir, 'source'), bytes);
    });
    beforeEach(() => {
      retries = 0;
      store = patient;
    });
    afterEach(() => proxy.failNext());
    after(() => proxy[Symbol.asyncDispose]());

    const faults: Fault[] = [
      { kind: 'status', status: 500 },
      { kind: 'status', status: 503 },
      { kind: 'reset', when: 'before' },
      { kind: 'reset', when: 'after' },
      { kind: 'silence' },
    ];
    const bodyFaults: Fault[] = [{ kind: 'truncate' }, { kind: 'stall' }, { kind: 'shorten' }, { kind: 'damage' }];
    const operations: Array<[string, (key: string) => Promise<unknown>]> = [
      ['get', async () => assert.ok(Buffer.from(await store.get('whole')).equals(bytes))],
      [
        'getRange',
        async () => assert.ok(Buffer.from(await store.getRange('whole', 5, 99_999)).equals(bytes.subarray(5, 99_999))),
      ],
      [
        'getToFile',
        async () => {
          await store.getToFile('whole', join(dir, 'copy'));
          assert.ok((await readFile(join(dir, 'copy'))).equals(bytes));
        },
      ],
      ['put', async (key) => (await store.put(key, bytes), assert.ok(Buffer.from(await store.get(key)).equals(bytes)))],
      [
        'putFile',
        async (key) => (
          await store.putFile(key, join(dir, 'source')),
          assert.ok(Buffer.from(await store.get(key)).equals(bytes))
        ),
      ],
      ['create', async (key) => assert.equal(await store.create(key, bytes), true)],
      ['list', async () => assert.ok((await store.list('')).includes('whole'))],
      ['head', async () => assert.deepEqual(await store.head('whole'), { sizeBytes: bytes.length })],
      ['delete', async () => store.delete(['none'])],
    ];
    const describeFault = (fault: Fault) => Object.values(fault).join(' ');

    for (const fault of faults) {
      it(`every operation survives: ${describeFault(fault)}, twice`, async () => {
        // Each costs its time out: one that reads, one that writes, one that lists.
        const isLong = fault.kind === 'silence';
        if (isLong) store = hasty;
        for (const [name, run] of isLong ? [0, 4, 6].map((at) => operations[at]!) : operations) {
          proxy.failNext(fault, fault);
          retries = 0;
          await run(`new/${name}-${describeFault(fault).replaceAll(' ', '-')}`);
          assert.ok(isLong ? retries >= 2 : retries === 2, `${name}: ${retries} further tries`);
        }
      });
    }
    for (const fault of bodyFaults) {
      it(`reads are never deceived by: ${describeFault(fault)}`, async () => {
        if (fault.kind === 'stall') store = hasty;
        // Of a part of an object nobody knows the checksum: the layer format has its own.
        const reads = operations.slice(0, 3).filter(([name]) => fault.kind !== 'damage' || name !== 'getRange');
        for (const [name, run] of reads) {
          proxy.failNext(fault, fault);
          retries = 0;
          await (fault.kind === 'shorten' && name === 'getRange'
            ? assert.rejects(run(''), (e) => errorKind(e) === 'corrupt')
            : run('').then(() => assert.ok(retries >= 2, name)));
        }
      });
    }

    it('waits for a slow server', async () => {
      proxy.failNext({ kind: 'slow', ms: 100 });
      assert.ok(Buffer.from(await store.get('whole')).equals(bytes));
      assert.equal(retries, 0);
    });

    it('gives up after a bounded number of tries, with what happened last', async () => {
      proxy.choose = () => ({ kind: 'status', status: 503 });
      const before = proxy.seen.length;
      await assert.rejects(store.get('whole'), (error) => {
        assert.match(errorText(error), /could not read object whole.*tried 8 times/);
        return errorKind(error) === 'unavailable';
      });
      assert.equal(proxy.seen.length - before, 8);
    });

    it('stops trying when told to', async () => {
      store = hasty;
      proxy.choose = () => ({ kind: 'silence' });
      const stop = new AbortController();
      const reading = store.get('whole', stop.signal);
      while (retries === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      stop.abort();
      await assert.rejects(reading, (error) => errorKind(error) === 'cancelled');
    });

    it('does not try again what will not change', async () => {
      const before = proxy.seen.length;
      await assert.rejects(store.get('none'), (error) => errorKind(error) === 'not-found');
      await assert.rejects(store.getRange('whole', 300_000, 300_001), (error) => errorKind(error) === 'corrupt');
      assert.equal(proxy.seen.length - before, 2);
    });

    it('uploads in parts though every third request fails', async () => {
      const large = randomBytes(CONTRACT_PART_BYTES + 1000);
      await writeFile(join(dir, 'large'), large);
      for (const fault of [faults[0]!, faults[3]!]) {
        proxy.choose = ({ number }) => (number % 3 === 0 ? fault : { kind: 'none' });
        await store.putFile('large', join(dir, 'large'));
        proxy.failNext();
        assert.ok(Buffer.from(await store.get('large')).equals(large));
      }
      // What the server did though its answer was lost: the id of that upload is not known to anybody.
      assert.ok([...fake.buckets.get('store')!.uploads.values()].every(({ parts }) => parts.size === 0));
    });

    it('stands random faults, and ends with what was written last', async () => {
      const kinds: Fault[] = [...faults.slice(0, 4), { kind: 'truncate' }, { kind: 'damage' }, { kind: 'slow', ms: 5 }];
      let state = 12345;
      const random = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) / 2 ** 32;
      proxy.choose = () => (random() < 0.3 ? kinds[Math.floor(random() * kinds.length)]! : { kind: 'none' });
      for (let n = 0; n < 40; n++) {
        const value = randomBytes(1000 + n);
        await store.put('random', value);
        assert.ok(Buffer.from(await store.get('random')).equals(value), `write ${n}`);
      }
      assert.ok(retries > 10, `${retries} further tries`);
    });

    it('pauses twice as long each time, up to a limit', () => {
      const policy = { pauseMinMs: 100, pauseMaxMs: 5_000 };
      assert.deepEqual(
        [1, 2, 3, 6, 7, 20].map((n) => pauseLimitMs(n, policy)),
        [100, 200, 400, 3_200, 5_000, 5_000],
      );
    });
  });
});
