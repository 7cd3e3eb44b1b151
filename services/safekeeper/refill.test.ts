/** Timelines on safekeepers that lack them: pulled, refilled, recovered from peers and from the object store. */
import { strict as assert } from 'node:assert';
import { rm } from 'node:fs/promises';
import { lsnFromWire, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { TimelineAdminServiceClient } from '#gen/neon/safekeeper/v1/timeline_admin.js';
import { startBroker, type BrokerProcess } from './testing/broker-process.js';
import { SEG_SIZE, SYSTEM_ID, TestCluster, TTID } from './testing/cluster.js';
import { ClusterLeader, START } from './testing/leader.js';
import { ScriptedLink } from './testing/scripted-proposer.js';
import { acknowledgeWal, readWal, until } from './testing/wal-reading.js';

describe('safekeepers that lack a timeline', function () {
  // Starting a process takes long on a busy machine.
  this.timeout(180_000);
  let broker: BrokerProcess;
  let cluster: TestCluster;
  let leader: ClusterLeader;

  before(async () => {
    broker = await startBroker();
  });
  after(() => {
    broker.child.kill('SIGTERM');
  });
  beforeEach(() => {
    leader = new ClusterLeader();
  });
  afterEach(async () => {
    leader.close();
    await cluster.stop();
  });

  const admin = async <T>(index: number, act: (client: TimelineAdminServiceClient) => Promise<T>): Promise<T> => {
    const client = createClient(TimelineAdminServiceClient, cluster.node(index).safekeeper.grpcAddr);
    try {
      return await act(client);
    } finally {
      client.close();
    }
  };
  const pull = (index: number, sourceAddrs: string[]) =>
    admin(index, (client) => callUnary(client, client.pullTimeline, { ttid: TTID, sourceAddrs, mconf: undefined }));
  const digest = async (index: number, untilLsn: Lsn): Promise<string> => {
    const range = { ttid: TTID, fromLsn: lsnToWire(START), untilLsn: lsnToWire(untilLsn) };
    return (await admin(index, (client) => callUnary(client, client.getDigest, range))).sha256;
  };
  const addrs = (...indexes: number[]) => indexes.map((index) => cluster.node(index).safekeeper.grpcAddr);
  const wipe = async (index: number): Promise<void> => {
    await cluster.stopNode(index);
    await rm(cluster.node(index).dir, { recursive: true });
    await cluster.relaunch(index);
  };

  it('pull the most advanced of their peers, and go on with the next leader', async () => {
    cluster = await TestCluster.withStore(3, broker.addr);
    await cluster.create(START);
    await leader.lead(cluster, 1);
    const old = await leader.write(SEG_SIZE / 2);
    await leader.lead(cluster, 5, [0, 1]);
    const end = await leader.write(1.5 * SEG_SIZE);
    await acknowledgeWal(cluster.node(0).safekeeper.grpcAddr, old);
    await cluster.add(4);
    await assert.rejects(pull(3, ['127.0.0.1:1']), { kind: 'not-found' });
    const { source, status } = await pull(3, addrs(2, 0));
    assert.equal(source, cluster.node(0).safekeeper.grpcAddr);
    assert.equal(lsnFromWire(status?.flushLsn ?? 0n), end);
    assert.equal(status?.term, 5n);
    assert.equal(await digest(3, end), await digest(0, end));
    await assert.rejects(pull(3, addrs(0)), { kind: 'already-exists' });
    await cluster.restart(3);
    await leader.lead(cluster, 6, [0, 1, 3]);
    const more = await leader.write(SEG_SIZE);
    assert.equal(await digest(3, more), await digest(1, more));
    assert.ok((await readWal(cluster.node(3).safekeeper.grpcAddr, START, more)).equals(leader.written));
  });

  it('refill an emptied disk before they answer a proposer, from peers or else from the object store', async () => {
    cluster = await TestCluster.withStore(2, broker.addr, ['--partial-backup-timeout-ms', '200']);
    await cluster.create(START);
    await leader.lead(cluster, 3);
    const end = await leader.write(2 * SEG_SIZE);
    const greet = async (): Promise<bigint> => {
      for (;;) {
        const link = new ScriptedLink(cluster.node(1).safekeeper.grpcAddr);
        try {
          return (await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE, create: true })).term;
        } catch (error) {
          assert.match(String(error), /being fetched/);
          await new Promise((resolve) => setTimeout(resolve, 50));
        } finally {
          link.close();
        }
      }
    };
    const status = () => cluster.status(1).then(({ flushLsn }) => lsnFromWire(flushLsn));
    await wipe(1);
    assert.equal(await greet(), 3n);
    assert.equal(await status(), end);
    assert.equal(await digest(1, end), await digest(0, end));
    // Now nobody is left but the object store, which has the unfinished segment since a moment ago.
    const timeline = cluster.node(0).safekeeper.timelines.get(TTID);
    await until(() => timeline.view.control.partials.some((one) => one.status === 'uploaded' && one.flushLsn === end));
    await until(() => timeline.view.control.backupLsn > START);
    leader.close();
    await cluster.stopNode(0);
    await wipe(1);
    assert.equal(await greet(), 3n);
    assert.equal(await status(), end);
    assert.ok((await readWal(cluster.node(1).safekeeper.grpcAddr, START, end)).equals(leader.written));
    await cluster.relaunch(0);
  });

  it('recover from a peer what was committed while they were away, without a compute', async () => {
    cluster = await TestCluster.withStore(3, broker.addr);
    await cluster.create(START);
    await leader.lead(cluster, 1);
    await leader.write(20_000);
    await cluster.stopNode(2);
    await leader.lead(cluster, 2, [0, 1]);
    const end = await leader.write(1.2 * SEG_SIZE);
    leader.close();
    await cluster.relaunch(2);
    await until(async () => lsnFromWire((await cluster.status(2)).commitLsn) === end);
    assert.equal(await digest(2, end), await digest(0, end));
    assert.equal((await cluster.status(2)).lastLogTerm, 2n);
  });
});
