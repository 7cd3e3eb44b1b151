import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { startChange } from './membership-change.js';
import type { Action, MembershipChange, MemberStatus } from './membership-change.js';

const member = (nodeId: number) => ({ nodeId, grpcAddr: `sk${nodeId}` });
const members = (...ids: number[]) => ids.map(member);
const OLD = { generation: 4, members: members(1, 2, 3), newMembers: [] };

function show(action: Action): string {
  if (action.kind === 'set-membership' || action.kind === 'pull') {
    return `${action.kind} ${action.member.nodeId} g${action.configuration.generation}`;
  }
  return action.kind === 'bump-term'
    ? `bump ${action.member.nodeId} t${action.term}`
    : `${action.kind} ${action.member.nodeId}`;
}

const actionsOf = (change: MembershipChange): string[] => change.actions().map(show).sort();
const status = (generation: number, term: number, lastLogTerm: number, flush: number): MemberStatus => ({
  generation,
  term,
  lastLogTerm,
  flushLsn: lsn(flush),
});

describe('membership change', () => {
  it('replaces a dead member: copies first, then stops the old configuration, then waits for the log and the term', () => {
    const change = startChange(OLD, members(1, 2, 4));
    assert.deepEqual(actionsOf(change), ['ask 1', 'ask 2', 'ask 4']);
    change.report(4, 'absent');
    change.report(1, status(4, 7, 7, 900));
    assert.deepEqual(actionsOf(change), ['ask 2', 'pull 4 g5']);
    change.report(4, status(5, 7, 7, 800));
    assert.deepEqual(actionsOf(change), ['ask 2', 'set-membership 1 g5', 'set-membership 2 g5', 'set-membership 3 g5']);
    change.report(1, status(5, 7, 7, 1000));
    assert.equal(change.phase, 'joint');
    change.report(2, status(5, 8, 7, 950));
    // Number 3 is dead; the others are a majority. What they had is wanted of the new ones: position 1000 of term 7, and term 8.
    assert.deepEqual(actionsOf(change), ['ask 2', 'bump 1 t8', 'bump 4 t8', 'set-membership 3 g5']);
    change.report(1, status(5, 8, 7, 1000));
    assert.equal(change.phase, 'joint');
    change.report(4, status(5, 8, 7, 1000));
    assert.equal(change.phase, 'final');
    assert.deepEqual(change.configuration, { generation: 6, members: members(1, 2, 4), newMembers: [] });
    assert.deepEqual(actionsOf(change), ['set-membership 1 g6', 'set-membership 2 g6', 'set-membership 4 g6']);
    change.report(1, status(6, 8, 7, 1000));
    change.report(2, status(6, 8, 7, 1000));
    assert.deepEqual(actionsOf(change), ['exclude 3', 'set-membership 4 g6']);
    change.report(4, status(6, 8, 7, 1000));
    change.reportExcluded(3);
    assert.equal(change.phase, 'done');
  });

  it('takes a later term with a shorter log as the newer one', () => {
    const change = startChange(OLD, members(4));
    change.report(4, status(5, 9, 8, 500));
    change.report(1, status(5, 7, 7, 1000));
    change.report(2, status(5, 9, 9, 600));
    assert.equal(change.phase, 'joint');
    change.report(4, status(5, 9, 9, 600));
    assert.equal(change.phase, 'final');
  });

  it('refuses sets that are none, and a second change before the first has ended', () => {
    assert.throws(() => startChange(OLD, []), { kind: 'invalid' });
    assert.throws(() => startChange(OLD, members(1, 1)), { kind: 'invalid' });
    assert.throws(() => startChange({ ...OLD, newMembers: members(4) }, members(1)), { kind: 'precondition' });
  });
});
