/** Faults planted in membership changes and in the removal of WAL. */
import { INVALID_LSN, lsn, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { segmentStart } from '#shared/postgres/wal-layout.js';
import type { Peer } from '../../services/compute-ctl/core/peer.js';
import type { WalProposer } from '../../services/compute-ctl/core/walproposer.js';
import { MembershipChange, startChange } from '../../services/neon-local/core/membership-change.js';
import type { Configuration, Member, MemberStatus } from '../../services/neon-local/core/membership-change.js';
import type { AcceptorEffect, ControlState } from '../../services/safekeeper/core/acceptor-types.js';
import type { Fault } from './fault.js';

/** The parts of a change that faults replace. */
interface ChangeInsides {
  phase: string;
  configuration: Configuration;
  leaving: readonly Member[];
  excluded: Set<number>;
  isReady(member: Member): boolean;
  target(): MemberStatus;
  oldHaveSwitched(): boolean;
  newHaveSwitched(): boolean;
}

function changed(tamper: (inside: ChangeInsides) => void): NonNullable<Fault['startChange']> {
  return (from, members) => {
    const change = startChange(from, members);
    tamper(change as unknown as ChangeInsides);
    return change;
  };
}

interface ProposerInsides {
  learnMembership(from: Peer | null, membership: WalProposer['membership']): void;
}

const CHANGE_FAULTS: readonly Fault[] = [
  {
    name: 'change-without-joint',
    about: 'the new members take over at once, without a configuration that needs both sets',
    startChange: (from, members) => {
      const change = new MembershipChange({ generation: from.generation, members: from.members, newMembers: members });
      change.phase = 'final';
      change.configuration = { generation: from.generation + 1, members, newMembers: [] };
      return change;
    },
  },
  {
    name: 'joint-counts-new-alone',
    about: 'while members change a walproposer needs a majority of the new ones alone',
    toProposer: (_, message) => {
      if (message.kind !== 'greeting' || message.membership.newMembers.length === 0) return message;
      const { generation, newMembers } = message.membership;
      return { ...message, membership: { generation, members: newMembers, newMembers: [] } };
    },
  },
  {
    name: 'joint-counts-old-alone',
    about: 'while members change a walproposer needs a majority of the old ones alone',
    toProposer: (_, message) => {
      if (message.kind !== 'greeting' || message.membership.newMembers.length === 0) return message;
      return { ...message, membership: { ...message.membership, newMembers: [] } };
    },
  },
  {
    name: 'change-does-not-wait-for-wal',
    about: 'the new members take over before a majority of them has what the old ones have',
    startChange: changed((inside) => {
      const original = inside.target.bind(inside);
      inside.target = () => ({ ...original(), lastLogTerm: 0, flushLsn: INVALID_LSN });
    }),
  },
  {
    name: 'change-does-not-tell-old',
    about: 'the new members are made ready before a majority of the old ones has left the old configuration',
    startChange: changed((inside) => {
      inside.oldHaveSwitched = () => true;
      inside.target = () => ({ generation: 0, term: 0, lastLogTerm: 0, flushLsn: INVALID_LSN });
    }),
  },
  {
    name: 'change-excludes-early',
    about: 'old members are excluded before a majority of the new ones is in the final configuration',
    harmless:
      'the final configuration is decided when a majority of the new members has everything, so nothing is lost with the old ones; excluding them late keeps somebody who can tell computes of the change',
    startChange: changed((inside) => {
      inside.newHaveSwitched = () => true;
    }),
  },
  {
    name: 'acceptor-takes-any-generation',
    about: 'a safekeeper takes votes and appends of other configurations than its own',
    acceptorStep: (state, input, step) => {
      if (input.kind !== 'vote' && input.kind !== 'append' && input.kind !== 'elected') return step(state, input);
      const { generation } = input;
      return step(state, { ...input, generation: state.control.membership.generation }).map((effect): AcceptorEffect =>
        effect.kind === 'reply' && effect.reply.kind !== 'greeting'
          ? { ...effect, reply: { ...effect.reply, generation } }
          : effect,
      );
    },
  },
  {
    name: 'membership-not-persisted',
    about: 'a safekeeper moves to a configuration in memory only',
    acceptorStep: (state, input, step) =>
      input.kind === 'membership'
        ? step(state, input).filter((effect) => effect.kind !== 'persist')
        : step(state, input),
  },
  {
    name: 'acks-kept-over-change',
    about: 'a walproposer goes on counting what was acknowledged in an older configuration',
    makeProposer: (proposer) => {
      const inside = proposer as unknown as ProposerInsides;
      const original = inside.learnMembership.bind(proposer);
      inside.learnMembership = (from, membership) => {
        const before = new Map<Peer, Lsn>(proposer.peers.map((peer) => [peer, peer.flushLsn]));
        original(from, membership);
        for (const [peer, flushLsn] of before) peer.flushLsn = flushLsn;
      };
    },
  },
];

/** Removes by another rule than the acceptor's. */
function removeBy(horizon: (persisted: ControlState) => Lsn): NonNullable<Fault['acceptorStep']> {
  return (state, input, step) => {
    if (input.kind !== 'remove-wal') return step(state, input);
    const below = segmentStart(horizon(state.persisted), state.control.segSize);
    if (below <= state.removedLsn) return [];
    state.removedLsn = below;
    return [{ kind: 'remove-wal', below }];
  };
}

const REMOVAL_FAULTS: readonly Fault[] = [
  {
    name: 'remove-before-backup',
    about: 'WAL is removed that is in layers, but not in the object store',
    acceptorStep: removeBy(({ commitLsn, remoteConsistentLsn }) => lsnMin(commitLsn, remoteConsistentLsn)),
  },
  {
    name: 'remove-before-layers',
    about: 'WAL is removed that is in the object store, but that the page server has not in layers',
    acceptorStep: removeBy(({ commitLsn, backupLsn }) => lsnMin(commitLsn, backupLsn)),
  },
  {
    name: 'remove-what-a-start-needs',
    about: 'WAL is removed that the others have in the object store and in layers; a start here begins before',
    acceptorStep: removeBy(({ backupLsn, remoteConsistentLsn }) => lsnMin(backupLsn, remoteConsistentLsn)),
  },
  {
    name: 'backup-beyond-upload',
    about: 'the backup position is raised to the end of the segment that comes after the uploaded one',
    acceptorStep: (state, input, step) => {
      if (input.kind !== 'backup') return step(state, input);
      return step(state, { ...input, backupLsn: lsn(input.backupLsn + state.control.segSize) });
    },
  },
];

export const UPKEEP_FAULTS: readonly Fault[] = [...CHANGE_FAULTS, ...REMOVAL_FAULTS];
