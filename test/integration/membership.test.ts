/** A dead safekeeper is replaced by a new one, by the driver that `neon safekeeper set-members` uses, on real safekeepers. */
import { strict as assert } from 'node:assert';
import { lsnFromWire } from '#shared/core/lsn.js';
import { changeMembers } from '../../services/neon-local/io/membership-driver.js';
import { TestCluster, TTID } from '../../services/safekeeper/testing/cluster.js';
import { ClusterLeader, START } from '../../services/safekeeper/testing/leader.js';
import { readWal } from '../../services/safekeeper/testing/wal-reading.js';

describe('set-members', function () {
  this.timeout(180_000);

  it('replaces a dead safekeeper by a new one that has everything, and fences who speaks for the old members', async () => {
    const cluster = await TestCluster.withStore(3, '127.0.0.1:1');
    const leader = new ClusterLeader();
    try {
      await cluster.create(START);
      await leader.lead(cluster, 4);
      const end = await leader.write(400_000);
      await cluster.add(4);
      const member = (id: number) => ({ nodeId: id, grpcAddr: cluster.node(id - 1).safekeeper.grpcAddr });
      const request = { ttid: TTID, members: [1, 2, 3].map(member), newMembers: [1, 2, 4].map(member) };
      await cluster.stopNode(2);
      const lines: string[] = [];
      const say = (text: string): void => void lines.push(text);
      const configuration = await changeMembers({ ...request, say, signal: AbortSignal.timeout(120_000) });
      assert.equal(configuration.generation, 2, lines.join('\n'));
      assert.ok(lines.some((line) => line.includes('safekeeper 3 could not be told')));
      for (const index of [0, 1, 3]) {
        const { mconf, flushLsn, term } = await cluster.status(index);
        assert.deepEqual([mconf?.generation, mconf?.members.map(({ nodeId }) => Number(nodeId))], [2, [1, 2, 4]]);
        assert.deepEqual([lsnFromWire(flushLsn), term], [end, 4n]);
        const read = await readWal(cluster.node(index).safekeeper.grpcAddr, START, end);
        assert.ok(read.equals(leader.written), `safekeeper ${index + 1} has other WAL`);
      }
      // The proposer of the first configuration has to greet again, and the one that is back is no member.
      await assert.rejects(leader.write(1_000));
      for (const index of [0, 1, 3]) assert.equal(lsnFromWire((await cluster.status(index)).flushLsn), end);
      await cluster.relaunch(2);
      assert.equal((await cluster.status(2)).mconf?.generation, 0);
      // The same once more changes nothing but the generation.
      const again = await changeMembers({
        ...request,
        members: request.newMembers,
        say,
        signal: AbortSignal.timeout(120_000),
      });
      assert.equal(again.generation, 4);
    } finally {
      leader.close();
      await cluster.stop();
    }
  });
});
