/**
 * Faults that a simulation worth its name must notice. Each is a mistake that an implementation of this consensus could make, planted
 * from outside. Those marked harmless are such that the rules around them make up for them; they must go unnoticed, or the reason
 * given is wrong.
 */
import { cutTermHistory } from '#shared/consensus/term-history.js';
import { lsn, lsnMax, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { acceptorLastLogTerm } from '../../services/safekeeper/core/acceptor.js';
import type { AcceptorEffect, AcceptorReply, AppendInput } from '../../services/safekeeper/core/acceptor-types.js';
import { UPKEEP_FAULTS } from './planted-change-faults.js';
import { PROPOSER_FAULTS } from './planted-proposer-faults.js';
import type { Fault } from './fault.js';

type Reply = Extract<AcceptorEffect, { kind: 'reply' }>;

const isReply = (effect: AcceptorEffect): effect is Reply => effect.kind === 'reply';
const without = (effects: readonly AcceptorEffect[], kind: AcceptorEffect['kind']): AcceptorEffect[] =>
  effects.filter((effect) => effect.kind !== kind);

function changeReplies(effects: readonly AcceptorEffect[], change: (reply: AcceptorReply) => AcceptorReply) {
  return effects.map((effect) => (isReply(effect) ? { ...effect, reply: change(effect.reply) } : effect));
}

const VOTE_FAULTS: readonly Fault[] = [
  {
    name: 'vote-without-persist',
    about: 'a vote is given, but not written to the control file',
    acceptorStep: (state, input, step) =>
      input.kind === 'vote' ? without(step(state, input), 'persist') : step(state, input),
  },
  {
    name: 'vote-before-persist',
    about: 'a vote is told before it is written to the control file',
    acceptorStep: (state, input, step) => {
      const effects = step(state, input);
      if (input.kind !== 'vote') return effects;
      return [...effects.filter(isReply), ...without(effects, 'reply')];
    },
  },
  {
    name: 'vote-twice',
    about: 'a vote is given again in a term that was voted in',
    acceptorStep: (state, input, step) =>
      changeReplies(step(state, input), (reply) =>
        reply.kind === 'vote' && input.kind === 'vote' && reply.term === input.term
          ? { ...reply, voteGiven: true }
          : reply,
      ),
  },
  {
    name: 'vote-history-uncut',
    about: 'a vote tells the whole history, also terms that the log does not reach: it looks newer than it is',
    acceptorStep: (state, input, step) =>
      changeReplies(step(state, input), (reply) => {
        if (reply.kind !== 'vote' || reply.flushLsn === 0) return reply;
        const { history } = state.control;
        return { ...reply, history: history.map((entry) => ({ ...entry, lsn: lsnMin(entry.lsn, reply.flushLsn) })) };
      }),
  },
];

const DURABILITY_FAULTS: readonly Fault[] = [
  {
    name: 'ack-before-sync',
    about: 'WAL is acknowledged, then synced',
    acceptorStep: (state, input, step) => {
      const effects = step(state, input);
      return [...without(effects, 'flush-wal'), ...effects.filter((effect) => effect.kind === 'flush-wal')];
    },
  },
  {
    name: 'sync-forgotten',
    about: 'WAL is acknowledged and never synced',
    acceptorStep: (state, input, step) => without(step(state, input), 'flush-wal'),
  },
  {
    name: 'positions-never-persisted',
    about: 'the control file does not follow the commit position',
    acceptorStep: (state, input, step) =>
      input.kind === 'vote' || input.kind === 'elected' || input.kind === 'greeting'
        ? step(state, input)
        : without(step(state, input), 'persist'),
  },
  {
    name: 'ack-inside-record',
    about: 'the end of the bytes is acknowledged instead of the end of the last whole record',
    acceptorStep: (state, input, step) =>
      changeReplies(step(state, input), (reply) =>
        reply.kind === 'append' && reply.flushLsn !== 0 ? { ...reply, flushLsn: state.syncedLsn } : reply,
      ),
  },
  {
    name: 'ack-of-writes',
    about: 'what was written is acknowledged as flushed',
    acceptorStep: (state, input, step) =>
      changeReplies(step(state, input), (reply) =>
        reply.kind === 'append' && reply.flushLsn !== 0 ? { ...reply, flushLsn: state.writeRecordLsn } : reply,
      ).concat(
        input.kind === 'append' && input.term === state.control.term
          ? [ackOf(input, state.writeRecordLsn, state.control.commitLsn)]
          : [],
      ),
  },
];

function ackOf(input: AppendInput, flushLsn: Lsn, commitLsn: Lsn): AcceptorEffect {
  const { connection, generation, term } = input;
  return { kind: 'reply', connection, reply: { kind: 'append', generation, term, flushLsn, commitLsn } };
}

const ELECTED_FAULTS: readonly Fault[] = [
  {
    name: 'no-truncation-on-elected',
    about: 'the log is not cut where the new leader begins',
    acceptorStep: (state, input, step) => without(step(state, input), 'truncate-wal'),
  },
  {
    name: 'history-before-truncation',
    about: "the leader's history is written before the log is cut",
    acceptorStep: (state, input, step) => {
      const effects = step(state, input);
      if (input.kind !== 'elected') return effects;
      const cuts = effects.filter((effect) => effect.kind === 'truncate-wal');
      return [...without(effects, 'truncate-wal'), ...cuts];
    },
  },
  {
    name: 'history-not-adopted',
    about: "the leader's WAL is taken under the history that was there",
    acceptorStep: (state, input, step) => {
      const { history } = state.control;
      const effects = step(state, input);
      if (input.kind !== 'elected' || history.length === 0 || state.control.term !== input.term) return effects;
      return effects.map((effect) =>
        effect.kind === 'persist' ? { ...effect, control: { ...effect.control, history } } : effect,
      );
    },
  },
  {
    name: 'elected-cuts-too-much',
    about: "the log is cut a record's length below where the new leader begins",
    acceptorStep: (state, input, step) =>
      step(state, input).map((effect) =>
        effect.kind === 'truncate-wal' ? { ...effect, to: lsnMax(lsn(effect.to - 8), lsn(512)) } : effect,
      ),
  },
  {
    name: 'leader-commit-kept',
    about: "what the previous leader told as committed counts on after the next leader's Elected",
    harmless:
      'a leader tells only what it has committed, and every later leader continues a log that has all of it: when the flush position of the new log passes it, it is committed in this log too',
    acceptorStep: (state, input, step) => {
      const told = state.leaderCommitLsn;
      const effects = step(state, input);
      if (input.kind === 'elected') state.leaderCommitLsn = lsnMax(state.leaderCommitLsn, told);
      return effects;
    },
  },
];

const APPEND_FAULTS: readonly Fault[] = [
  {
    name: 'old-leader-appends',
    about: 'an append of a term that is over is taken as one of the present term',
    acceptorStep: (state, input, step) =>
      input.kind === 'append' && input.term < state.control.term
        ? step(state, { ...input, term: state.control.term })
        : step(state, input),
  },
  {
    name: 'append-anywhere',
    about: 'an append moves the end of the log to where it begins, forward or back',
    acceptorStep: (state, input, step) => {
      const isOurs = input.kind === 'append' && input.term === state.control.term && state.decoder !== null;
      if (!isOurs || input.bytes.length === 0 || input.beginLsn === state.writeLsn || input.beginLsn < 512) {
        return step(state, input);
      }
      if (state.control.history.at(-1)?.term !== input.term) return step(state, input);
      state.writeLsn = input.beginLsn;
      state.writeRecordLsn = input.beginLsn;
      state.flushLsn = lsnMin(state.flushLsn, input.beginLsn);
      state.syncedLsn = lsnMin(state.syncedLsn, input.beginLsn);
      state.decoder = state.makeDecoder(input.beginLsn, state.control.segSize);
      return step(state, input);
    },
  },
  {
    name: 'overlapping-append-merged',
    about: 'an append that begins below the end of the log is taken from that end on instead of being refused',
    harmless:
      'both connections carry the log of one term, which has one leader: what overlaps is the same bytes. It is refused all the same, for it shows that an old connection still delivers',
    acceptorStep: (state, input, step) => {
      if (input.kind !== 'append' || input.beginLsn >= state.writeLsn) return step(state, input);
      const bytes = input.bytes.slice(state.writeLsn - input.beginLsn);
      return step(state, { ...input, beginLsn: state.writeLsn, bytes });
    },
  },
];

const COMMIT_FAULTS: readonly Fault[] = [
  {
    name: 'commit-above-flush',
    about: "the leader's commit position is taken as it is, though the WAL below it is not here",
    acceptorStep: (state, input, step) => {
      const effects = step(state, input);
      const { control, leaderCommitLsn } = state;
      if (leaderCommitLsn <= control.commitLsn) return effects;
      return [...effects, { kind: 'persist', control: { ...control, commitLsn: leaderCommitLsn } }];
    },
  },
  {
    name: 'broker-commit-without-term-check',
    about: "a peer's commit position is applied to a log that ends in another term",
    acceptorStep: (state, input, step) =>
      input.kind === 'peer-info'
        ? step(state, { ...input, lastLogTerm: acceptorLastLogTerm(state) })
        : step(state, input),
  },
  {
    name: 'peer-terms-compared-uncut',
    about: 'a safekeeper compares a peer with the last term it heard of, not with the last that its log reaches',
    harmless:
      'a history is adopted only together with the cut of the log to what its leader has: the log is a prefix of that of its last term, if only a short one, and the commit position is limited by the flush position',
    acceptorStep: (state, input, step) => {
      if (input.kind !== 'peer-info' || input.lastLogTerm !== state.control.history.at(-1)?.term) {
        return step(state, input);
      }
      const reached = cutTermHistory(state.control.history, state.flushLsn).at(-1)?.term ?? 0;
      return step(state, { ...input, lastLogTerm: reached });
    },
  },
];

export const PLANTED_FAULTS: readonly Fault[] = [
  ...VOTE_FAULTS,
  ...DURABILITY_FAULTS,
  ...ELECTED_FAULTS,
  ...APPEND_FAULTS,
  ...COMMIT_FAULTS,
  ...PROPOSER_FAULTS,
  ...UPKEEP_FAULTS,
];
