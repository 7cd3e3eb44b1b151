import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import { hasQuorum, isMember, quorumLsn } from './membership.js';

const NOBODY = { generation: 0, members: [], newMembers: [] };
const member = (nodeId: bigint) => ({ nodeId, grpcAddr: '' });
const voter = (id: number, reached = 0) => ({ nodeId: BigInt(id), reached: lsn(reached) });

describe('membership', () => {
  it('finds the highest position that a majority has', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50), { minLength: 1, maxLength: 7 }), (positions) => {
        const voters = positions.map((position, index) => voter(index, position));
        const found = quorumLsn(NOBODY, voters, ({ reached }) => reached);
        const having = (at: number) => positions.filter((position) => position >= at).length * 2 > positions.length;
        assert.ok(having(found) && !having(found + 1));
      }),
    );
  });

  it('needs both majorities while members change, and counts absent members as behind', () => {
    const joint = { generation: 2, members: [1n, 2n, 3n].map(member), newMembers: [3n, 4n, 5n].map(member) };
    const voters = [voter(1, 90), voter(2, 80), voter(3, 70), voter(4, 60)];
    assert.equal(
      quorumLsn(joint, voters, ({ reached }) => reached),
      60,
    );
    assert.ok(!hasQuorum(joint, voters, ({ nodeId }) => nodeId < 4n));
    assert.ok(hasQuorum(joint, voters, ({ nodeId }) => nodeId > 1n));
    assert.equal(
      quorumLsn(joint, voters.slice(0, 3), ({ reached }) => reached),
      0,
    );
    assert.ok(isMember(joint, 5n) && !isMember(joint, 6n) && isMember(NOBODY, 6n));
  });

  it('does not count who has not greeted towards a named membership', () => {
    const named = { generation: 1, members: [1n, 2n, 3n].map(member), newMembers: [] };
    assert.ok(!hasQuorum(named, [voter(1), { nodeId: null }, { nodeId: null }], () => true));
    assert.ok(hasQuorum(NOBODY, [voter(1), { nodeId: null }, { nodeId: null }], () => true));
  });
});
