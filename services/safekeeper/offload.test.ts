/** WAL in the object store: upload by one, removal, reading it back, eviction. Real files, real gRPC, a real broker. */
import { strict as assert } from 'node:assert';
import { readdir, readFile, rm, truncate } from 'node:fs/promises';
import path from 'node:path';
import { lsn, lsnFromWire, type Lsn } from '#shared/core/lsn.js';
import { pathExists } from '#shared/io/files.js';
import { segmentName, segmentNumber } from '#shared/postgres/wal-layout.js';
import { startBroker } from './testing/broker-process.js';
import { SEG_SIZE, TestCluster, TTID } from './testing/cluster.js';
import { ClusterLeader, START } from './testing/leader.js';
import { acknowledgeWal, readWal, until } from './testing/wal-reading.js';

const FIRST_SEGMENT = segmentNumber(START, SEG_SIZE);

async function localSegments(cluster: TestCluster, index: number): Promise<string[]> {
  return (await readdir(cluster.timelineDir(index))).filter((name) => name.startsWith('0000')).sort();
}

function objects(cluster: TestCluster): Promise<string[]> {
  return readdir(path.join(cluster.storeDir, 'wal', TTID.tenantId, TTID.timelineId)).then((names) => names.sort());
}

function segments(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, at) => segmentName(from + at, SEG_SIZE));
}

describe('WAL in the object store', () => {
  let cluster: TestCluster;
  let leader: ClusterLeader;

  beforeEach(() => {
    leader = new ClusterLeader();
  });
  afterEach(async () => {
    leader.close();
    await cluster.stop();
  });

  const backupReaches = (index: number, at: Lsn): Promise<void> =>
    until(async () => lsnFromWire((await cluster.status(index)).backupLsn) >= at);

  it('one of three uploads, all remove, and all serve what they removed', async function () {
    // Starting a process takes long on a busy machine.
    this.timeout(180_000);
    const broker = await startBroker();
    try {
      cluster = await TestCluster.withStore(3, broker.addr);
      await cluster.create(START);
      await leader.lead(cluster, 1);
      const end = await leader.write(3 * SEG_SIZE);
      const last = segmentNumber(end, SEG_SIZE);
      for (const index of [0, 1, 2]) await backupReaches(index, lsn(last * SEG_SIZE));
      assert.deepEqual(await objects(cluster), segments(FIRST_SEGMENT, last));
      // The page server has not got it into layers, so it must stay.
      assert.equal((await localSegments(cluster, 0)).length, last - FIRST_SEGMENT + 1);

      for (const { safekeeper } of cluster.nodes) await acknowledgeWal(safekeeper.grpcAddr, end);
      for (const index of [0, 1, 2]) {
        await until(async () => (await localSegments(cluster, index)).length === 1);
        assert.deepEqual(await localSegments(cluster, index), [`${segmentName(last, SEG_SIZE)}.partial`]);
        const read = await readWal(cluster.node(index).safekeeper.grpcAddr, START, end);
        assert.ok(read.equals(leader.written), `safekeeper ${index} serves other WAL`);
      }
      const uploads = cluster.nodes.map(
        ({ safekeeper }) => safekeeper.timelines.all()[0]?.objects?.counters.segmentsUploaded ?? 0,
      );
      // Before the first news from the broker several may think that they are elected, which costs an upload only.
      assert.ok(
        uploads.reduce((sum, count) => sum + count) < 3 * (last - FIRST_SEGMENT),
        `uploads: ${uploads.join(' ')}`,
      );

      for (const index of [0, 1, 2]) await cluster.restart(index);
      await leader.lead(cluster, 2);
      const more = await leader.write(SEG_SIZE);
      const read = await readWal(cluster.node(1).safekeeper.grpcAddr, START, more);
      assert.ok(read.equals(leader.written));
    } finally {
      broker.child.kill('SIGTERM');
    }
  });

  it('removes nothing while the store refuses, and goes on when it works again', async () => {
    cluster = await TestCluster.withStore(1, '127.0.0.1:1');
    await cluster.create(START);
    await leader.lead(cluster, 1);
    const end = await leader.write(2 * SEG_SIZE);
    await backupReaches(0, lsn(segmentNumber(end, SEG_SIZE) * SEG_SIZE));
    // Without its directory for unfinished uploads a store in a directory fails each write.
    const uploads = path.join(cluster.storeDir, '.uploads');
    await rm(uploads, { recursive: true });
    const next = await leader.write(2 * SEG_SIZE);
    await acknowledgeWal(cluster.node(0).safekeeper.grpcAddr, next);
    const counters = cluster.node(0).safekeeper.timelines.all()[0]?.objects?.counters;
    await until(() => (counters?.failures ?? 0) > 0);
    const kept = segmentName(segmentNumber(end, SEG_SIZE), SEG_SIZE);
    assert.ok((await localSegments(cluster, 0)).includes(kept));
    await cluster.restart(0);
    await until(async () => !(await localSegments(cluster, 0)).includes(kept));
    assert.ok(await pathExists(uploads));
    const read = await readWal(cluster.node(0).safekeeper.grpcAddr, START, next);
    assert.ok(read.equals(leader.written));
  });

  it('evicts an idle timeline to its partial object, and brings it back for a reader and for a leader', async () => {
    cluster = await TestCluster.withStore(1, '127.0.0.1:1', ['--eviction-min-resident-ms', '200']);
    await cluster.create(START);
    await leader.lead(cluster, 1);
    const end = await leader.write(1.5 * SEG_SIZE);
    await acknowledgeWal(cluster.node(0).safekeeper.grpcAddr, end);
    const timeline = () => cluster.node(0).safekeeper.timelines.get(TTID);
    leader.close();
    await until(() => timeline().isEvicted);
    await until(async () => (await localSegments(cluster, 0)).length === 0);
    const partial = (await objects(cluster)).filter((name) => name.endsWith('_sk1.partial'));
    assert.equal(partial.length, 1);
    assert.equal(lsnFromWire((await cluster.status(0)).flushLsn), end);

    await cluster.restart(0);
    assert.ok(timeline().isEvicted);
    assert.ok((await readWal(cluster.node(0).safekeeper.grpcAddr, START, end)).equals(leader.written));
    assert.ok(!timeline().isEvicted);
    assert.equal((await localSegments(cluster, 0)).length, 1);

    await until(() => timeline().isEvicted);
    await leader.lead(cluster, 2);
    const more = await leader.write(SEG_SIZE);
    assert.ok((await readWal(cluster.node(0).safekeeper.grpcAddr, START, more)).equals(leader.written));
    // The old partial object is replaced, none is left behind.
    await acknowledgeWal(cluster.node(0).safekeeper.grpcAddr, more);
    leader.close();
    await until(() => timeline().isEvicted);
    const now = (await objects(cluster)).filter((name) => name.endsWith('_sk1.partial'));
    assert.equal(now.length, 1);
    assert.notDeepEqual(now, partial);
  });

  it('does not take back a partial object that was damaged', async () => {
    cluster = await TestCluster.withStore(1, '127.0.0.1:1', ['--eviction-min-resident-ms', '100']);
    await cluster.create(START);
    await leader.lead(cluster, 1);
    const end = await leader.write(SEG_SIZE / 4);
    await acknowledgeWal(cluster.node(0).safekeeper.grpcAddr, end);
    leader.close();
    const timeline = cluster.node(0).safekeeper.timelines.get(TTID);
    await until(() => timeline.isEvicted);
    const [name = ''] = (await objects(cluster)).filter((object) => object.endsWith('.partial'));
    const file = path.join(cluster.storeDir, 'wal', TTID.tenantId, TTID.timelineId, name);
    await truncate(file, (await readFile(file)).length - 8);
    await assert.rejects(readWal(cluster.node(0).safekeeper.grpcAddr, START, end), { kind: 'corrupt' });
    assert.ok(timeline.isEvicted);
  });
});
