/**
 * What keeps a timeline in shape beside consensus: WAL that is in the object store, removal of WAL, eviction, and what the control
 * plane says about membership and terms.
 */
import { unreachable } from '#shared/core/assert.js';
import { formatTtid } from '#shared/core/ids.js';
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, MAX_LSN } from '#shared/core/lsn.js';
import { lastLogTerm } from '#shared/consensus/term-history.js';
import { segmentStart } from '#shared/postgres/wal-layout.js';
import type { AcceptorEffect, AcceptorState, ControlState, MembershipInput, UpkeepInput } from './acceptor-types.js';
import { persist } from './effects.js';
import { removalHorizon } from './horizon.js';
import { isMember, sameMembership } from './membership.js';
import { raise } from './positions.js';

export function upkeep(state: AcceptorState, input: UpkeepInput): AcceptorEffect[] {
  switch (input.kind) {
    case 'backup':
      raise(state, 'backupLsn', input.backupLsn);
      return state.control === state.persisted ? [] : [persist(state)];
    case 'partials':
      return adopt(state, { ...state.control, partials: input.partials });
    case 'remove-wal': {
      const below = removalHorizon(state.persisted, input);
      if (below <= state.removedLsn || state.control.evictedLsn !== INVALID_LSN) return [];
      state.removedLsn = below;
      return [{ kind: 'remove-wal', below }];
    }
    case 'evict':
      return evict(state);
    case 'resident':
      return adopt(state, { ...state.control, evictedLsn: INVALID_LSN });
    case 'membership':
      return membership(state, input);
    case 'bump-term':
      return input.term > state.control.term ? adopt(state, { ...state.control, term: input.term }) : [];
    default:
      return unreachable(input);
  }
}

/** Whether the object store has everything that this safekeeper has, so that its disk is not needed. Null: yes; else why not. */
export function whyNotEvictable(state: Pick<AcceptorState, 'control' | 'flushLsn' | 'writeLsn'>): string | null {
  const { control, flushLsn, writeLsn } = state;
  if (control.timelineStartLsn === INVALID_LSN || flushLsn === INVALID_LSN) return 'it has no WAL';
  // Written but unfinished records would be dropped: they were acknowledged to nobody, but a leader may be about to finish them.
  if (writeLsn > flushLsn) return 'an unfinished record was written';
  if (control.remoteConsistentLsn < control.commitLsn) return 'the page server has not all of it';
  const segment = segmentStart(flushLsn, control.segSize);
  if (control.backupLsn < segment && segment > control.timelineStartLsn) return 'whole segments are not in the store';
  if (segment === flushLsn) return null;
  const term = lastLogTerm(control.history, flushLsn);
  const isThere = control.partials.some(
    (one) =>
      one.status === 'uploaded' &&
      one.term === term &&
      one.flushLsn === flushLsn &&
      one.commitLsn === control.commitLsn,
  );
  return isThere ? null : 'its last segment is not in the store';
}

function evict(state: AcceptorState): AcceptorEffect[] {
  if (state.control.evictedLsn !== INVALID_LSN) return [];
  const problem = state.proposers.size > 0 ? 'a proposer is connected' : whyNotEvictable(state);
  if (problem !== null) {
    throw new StorageError('precondition', `timeline ${formatTtid(state.control.ttid)} cannot be evicted: ${problem}`);
  }
  state.decoder = null;
  state.control = { ...state.control, evictedLsn: state.flushLsn };
  return [persist(state), { kind: 'remove-wal', below: MAX_LSN }];
}

/**
 * The control plane's word. Whoever speaks for another configuration is refused from now on, and has to greet again. Safe at any time:
 * a member only ever counts in the configuration that its answers name.
 */
function membership(state: AcceptorState, input: MembershipInput): AcceptorEffect[] {
  const { control } = state;
  const own = control.membership;
  const given = input.membership;
  const name = formatTtid(control.ttid);
  if (given.generation < own.generation) {
    throw new StorageError(
      'precondition',
      `configuration ${given.generation} of ${name} is over, this safekeeper is in ${own.generation}`,
    );
  }
  if (given.generation === own.generation) {
    if (sameMembership(own, given)) return [];
    throw new StorageError('precondition', `configuration ${own.generation} of ${name} has other members`);
  }
  if (!isMember(given, state.nodeId)) {
    throw new StorageError(
      'precondition',
      `safekeeper ${state.nodeId} is no member of configuration ${given.generation} of ${name}`,
    );
  }
  return adopt(state, { ...control, membership: given });
}

function adopt(state: AcceptorState, next: ControlState): AcceptorEffect[] {
  state.control = next;
  return [persist(state)];
}
