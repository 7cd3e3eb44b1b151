/** Faults planted in the walproposer: methods of one instance are replaced by copies with a mistake, or its messages are changed. */
import { INVALID_LSN, lsn, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { TermHistory } from '#shared/consensus/term-history.js';
import { hasQuorum } from '../../services/compute-ctl/core/membership.js';
import type { Peer } from '../../services/compute-ctl/core/peer.js';
import type { Effect, ProposerPhase, WalProposer } from '../../services/compute-ctl/core/walproposer.js';
import type { Fault } from './fault.js';

/** The parts of a walproposer that faults replace or need. */
interface Insides {
  peers: readonly Peer[];
  phase: ProposerPhase;
  donor: number;
  startLsn: Lsn;
  availableLsn: Lsn;
  commitLsn: Lsn;
  truncateLsn: Lsn;
  membership: WalProposer['membership'];
  effects: Effect[];
  hasQuorum(agrees: (peer: Peer) => boolean): boolean;
  campaign(): void;
  lead(donor: Peer, history: TermHistory, startLsn: Lsn): void;
  append(peer: Peer, beginLsn: Lsn, bytes: Uint8Array): void;
  lowestFlush(): Lsn;
  advanceCommit(): void;
}

const NO_BYTES = new Uint8Array(0);

function insides(proposer: WalProposer): Insides {
  return proposer as unknown as Insides;
}

/** Commits as the walproposer does, but what the others have reached is reckoned by `reached`. */
function commitBy(reached: (inside: Insides) => Lsn): (proposer: WalProposer) => void {
  return (proposer) => {
    const inside = insides(proposer);
    inside.advanceCommit = () => {
      const position = reached(inside);
      if (position <= inside.commitLsn || position === INVALID_LSN) return;
      inside.commitLsn = position;
      if (inside.phase === 'recovering' && position >= inside.startLsn) {
        inside.phase = 'leading';
        inside.effects.push({ kind: 'recovered', lsn: inside.startLsn });
      }
      inside.effects.push({ kind: 'committed', lsn: position });
      for (const peer of inside.peers) {
        if (peer.phase === 'streaming' && !peer.readPending) inside.append(peer, peer.nextLsn, NO_BYTES);
      }
    };
  };
}

/** The position that `count` of the peers have reached. */
function reachedBy(inside: Insides, peers: readonly Peer[], count: number): Lsn {
  const positions = peers.map((peer) => lsnMin(peer.flushLsn, inside.availableLsn)).sort((a, b) => b - a);
  return positions[count - 1] ?? INVALID_LSN;
}

const ofThisTerm = (inside: Insides, position: Lsn): Lsn => (position < inside.startLsn ? INVALID_LSN : position);
const majority = (count: number): number => Math.floor(count / 2) + 1;
const isConnected = (peer: Peer): boolean => peer.phase !== 'offline';

const ELECTION_FAULTS: readonly Fault[] = [
  {
    name: 'votes-of-connected-only',
    about: 'a quorum of votes is computed of those safekeepers that are connected',
    makeProposer: (proposer) => {
      const inside = insides(proposer);
      inside.hasQuorum = (agrees) => hasQuorum(inside.membership, inside.peers.filter(isConnected), agrees);
    },
  },
  {
    name: 'donor-by-flush-only',
    about: 'the longest log is taken for the newest, whatever its last term',
    makeProposer: (proposer) => {
      const inside = insides(proposer);
      const lead = inside.lead.bind(proposer);
      inside.lead = (donor, history, startLsn) => {
        const voters = inside.peers.filter((peer) => peer.vote !== null);
        const longest = voters.reduce((best, one) => (flushOf(one) > flushOf(best) ? one : best), donor);
        inside.donor = longest.index;
        if (longest === donor || longest.vote === null) lead(donor, history, startLsn);
        else lead(longest, longest.vote.termHistory, longest.vote.flushLsn);
      };
    },
  },
  {
    name: 'refusal-counted-as-vote',
    about: 'an answer to the vote request counts as a vote, whatever it says',
    toProposer: (proposer, message) =>
      message.kind === 'vote' && message.term === proposer.term ? { ...message, voteGiven: true } : message,
  },
  {
    name: 'votes-kept-over-campaigns',
    about: 'votes for an earlier campaign of the same compute count for the next one',
    makeProposer: (proposer) => {
      const inside = insides(proposer);
      const campaign = inside.campaign.bind(proposer);
      inside.campaign = () => {
        const votes = inside.peers.map((peer) => peer.vote);
        campaign();
        for (const peer of inside.peers) peer.vote = votes[peer.index] ?? null;
      };
    },
  },
  {
    name: 'higher-term-ignored',
    about: 'a leader does not care when a safekeeper has a higher term',
    toProposer: (proposer, message) => {
      const leads = proposer.phase === 'leading' || proposer.phase === 'recovering';
      return leads && message.term > proposer.term ? null : message;
    },
  },
];

function flushOf(peer: Peer): Lsn {
  return peer.vote?.flushLsn ?? INVALID_LSN;
}

const COMMIT_FAULTS: readonly Fault[] = [
  {
    name: 'older-term-committed-by-counting',
    about: 'WAL of earlier terms is committed once it is on a majority, before anything of the own term is',
    makeProposer: commitBy((inside) => reachedBy(inside, inside.peers, majority(inside.peers.length))),
  },
  {
    name: 'commit-of-connected-only',
    about: 'a quorum of acknowledgements is computed of those safekeepers that are connected',
    makeProposer: commitBy((inside) => {
      const connected = inside.peers.filter(isConnected);
      return ofThisTerm(inside, reachedBy(inside, connected, majority(connected.length)));
    }),
  },
  {
    name: 'commit-by-half',
    about: 'half of the safekeepers are taken for a majority',
    makeProposer: commitBy((inside) =>
      ofThisTerm(inside, reachedBy(inside, inside.peers, Math.ceil(inside.peers.length / 2))),
    ),
  },
  {
    name: 'commit-of-what-was-sent',
    about: 'WAL counts as flushed where it was sent to',
    makeProposer: (proposer) => {
      const inside = insides(proposer);
      const advance = inside.advanceCommit.bind(proposer);
      inside.advanceCommit = () => {
        for (const peer of inside.peers) if (peer.phase === 'streaming') peer.flushLsn = peer.nextLsn;
        advance();
      };
    },
  },
  {
    name: 'ack-of-other-term-counted',
    about: 'a flush position told in another term counts in this one',
    toProposer: (proposer, message) =>
      message.kind === 'append' && message.term !== proposer.term ? { ...message, term: proposer.term } : message,
  },
  {
    name: 'horizon-at-commit',
    about: 'WAL is called needless once it is committed, though a safekeeper that is away still lacks it',
    makeProposer: (proposer) => {
      const inside = insides(proposer);
      inside.lowestFlush = () => lsn(inside.commitLsn);
    },
  },
];

export const PROPOSER_FAULTS: readonly Fault[] = [...ELECTION_FAULTS, ...COMMIT_FAULTS];
