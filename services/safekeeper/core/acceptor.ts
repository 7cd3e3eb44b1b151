/**
 * The acceptor: one safekeeper's part in the consensus on one timeline, as a state machine. `step` takes one input, changes the
 * state and returns what is to be done (acceptor-types.ts says how). No input and output here, no clock, no randomness.
 *
 * A message that breaks a rule throws a StorageError and leaves the state as it was (damaged WAL alone also stops further
 * appends until the next Elected). Invariants, checked after every step:
 *   term, commitLsn and flushLsn as reported never fall but for a truncation, which never goes below commitLsn;
 *   timelineStartLsn <= commitLsn <= flushLsn <= writeRecordLsn <= writeLsn, flushLsn <= syncedLsn <= writeLsn;
 *   no reply carries a term or a history that the control file does not hold.
 */
import { assert, unreachable } from '#shared/core/assert.js';
import { formatTtid } from '#shared/core/ids.js';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsnMax, type Lsn } from '#shared/core/lsn.js';
import { cutTermHistory, lastLogTerm } from '#shared/consensus/term-history.js';
import type {
  AcceptorEffect,
  AcceptorInput,
  AcceptorReply,
  AcceptorState,
  ControlState,
  FeedbackInput,
  GreetingInput,
  PeerInfoInput,
  RecordDecoder,
  VoteInput,
} from './acceptor-types.js';
import { append } from './acceptor-append.js';
import { elected } from './acceptor-elected.js';
import { appendReply, persist } from './effects.js';
import { checkGeneration, isMember } from './membership.js';
import { advanceCommit, isControlFileStale, raise } from './positions.js';
import { upkeep } from './acceptor-upkeep.js';

export interface AcceptorOptions {
  readonly nodeId: number;
  /** As read from the control file. */
  readonly control: ControlState;
  /** End of the last whole record on disk, all of it durable; 0 when there is no WAL. */
  readonly flushLsn: Lsn;
  readonly makeDecoder: (at: Lsn, segSize: number) => RecordDecoder;
}

/** Throws `corrupt` when the disk lacks WAL that the control file calls committed. */
export function createAcceptor(options: AcceptorOptions): AcceptorState {
  const { control, flushLsn } = options;
  if (flushLsn < control.commitLsn) {
    throw new StorageError(
      'corrupt',
      `WAL of ${formatTtid(control.ttid)} ends at ${formatLsn(flushLsn)}, below its commit position ${formatLsn(control.commitLsn)}`,
    );
  }
  const state: AcceptorState = {
    nodeId: options.nodeId,
    control,
    persisted: control,
    writeLsn: flushLsn,
    writeRecordLsn: flushLsn,
    syncedLsn: flushLsn,
    flushLsn,
    leaderCommitLsn: INVALID_LSN,
    decoder: null,
    removedLsn: INVALID_LSN,
    makeDecoder: options.makeDecoder,
    proposers: new Map(),
  };
  checkInvariants(state);
  return state;
}

/** Term of the last history entry that the durable log reaches. */
export function acceptorLastLogTerm(state: AcceptorState): number {
  return lastLogTerm(state.control.history, state.flushLsn);
}

export function step(state: AcceptorState, input: AcceptorInput): AcceptorEffect[] {
  const before = state.control;
  const effects = dispatch(state, input);
  checkInvariants(state);
  assert(state.control.term >= before.term, () => `term fell from ${before.term} to ${state.control.term}`);
  assert(state.control.commitLsn >= before.commitLsn, () => `commit fell from ${before.commitLsn}`);
  return effects;
}

function dispatch(state: AcceptorState, input: AcceptorInput): AcceptorEffect[] {
  switch (input.kind) {
    case 'greeting':
      return greeting(state, input);
    case 'vote':
      checkResident(state);
      return vote(state, input);
    case 'elected':
      checkResident(state);
      return elected(state, input);
    case 'append':
      checkResident(state);
      return append(state, input);
    case 'flush':
      return flush(state);
    case 'announce':
      return announce(state);
    case 'disconnect':
      state.proposers.delete(input.connection);
      return isDirty(state) ? flush(state) : [];
    case 'peer-info':
      return peerInfo(state, input);
    case 'feedback':
      return feedback(state, input);
    case 'checkpoint':
      return state.control === state.persisted ? [] : [persist(state)];
    case 'backup':
    case 'partials':
    case 'remove-wal':
    case 'evict':
    case 'resident':
    case 'membership':
    case 'bump-term':
      return upkeep(state, input);
    default:
      return unreachable(input);
  }
}

/** What a leader does needs WAL on disk. */
function checkResident({ control }: AcceptorState): void {
  if (control.evictedLsn === INVALID_LSN) return;
  throw new StorageError('unavailable', `the WAL of ${formatTtid(control.ttid)} is in the object store alone`);
}

function greeting(state: AcceptorState, input: GreetingInput): AcceptorEffect[] {
  const { control } = state;
  const name = formatTtid(control.ttid);
  if (formatTtid(input.ttid) !== name) {
    throw new StorageError('invalid', `greeting for ${formatTtid(input.ttid)} reached ${name}`);
  }
  if (input.segSize !== control.segSize) {
    throw new StorageError(
      'precondition',
      `${name} has WAL segments of ${control.segSize} bytes, the proposer's have ${input.segSize}`,
    );
  }
  const known = control.pgVersion;
  if (known !== 0 && input.pgVersion !== 0 && major(known) !== major(input.pgVersion)) {
    throw new StorageError(
      'precondition',
      `${name} belongs to PostgreSQL ${major(known)}, the proposer is ${major(input.pgVersion)}`,
    );
  }
  const newer = input.membership.generation > control.membership.generation;
  if (newer && !isMember(input.membership, state.nodeId)) {
    throw new StorageError(
      'precondition',
      `safekeeper ${state.nodeId} is no member of configuration ${input.membership.generation} of ${name}`,
    );
  }
  const next: ControlState = {
    ...control,
    membership: newer ? input.membership : control.membership,
    pgVersion: input.pgVersion === 0 ? known : input.pgVersion,
    systemId: input.systemId === 0n ? control.systemId : input.systemId,
  };
  const changed = newer || next.pgVersion !== known || next.systemId !== control.systemId;
  if (changed) state.control = next;
  const reply: AcceptorReply = {
    kind: 'greeting',
    nodeId: state.nodeId,
    membership: next.membership,
    term: control.term,
  };
  return [...(changed ? [persist(state)] : []), { kind: 'reply', connection: input.connection, reply }];
}

/** Votes once a term, and answers only when the vote and the log it is about are durable. */
function vote(state: AcceptorState, input: VoteInput): AcceptorEffect[] {
  checkGeneration(state.control, input.generation);
  const effects = isDirty(state) ? flush(state) : [];
  const voteGiven = state.control.term < input.term;
  if (voteGiven) {
    state.control = { ...state.control, term: input.term };
    effects.push(persist(state));
  }
  const { control, flushLsn } = state;
  const reply: AcceptorReply = {
    kind: 'vote',
    generation: control.membership.generation,
    term: control.term,
    voteGiven,
    flushLsn,
    truncateLsn: control.peerHorizonLsn,
    history: cutTermHistory(control.history, flushLsn),
  };
  effects.push({ kind: 'reply', connection: input.connection, reply });
  return effects;
}

/** Makes everything written durable, and answers the proposers that wait for it. */
function flush(state: AcceptorState): AcceptorEffect[] {
  const effects: AcceptorEffect[] = [];
  if (isDirty(state)) {
    state.syncedLsn = state.writeLsn;
    state.flushLsn = state.writeRecordLsn;
    effects.push({ kind: 'flush-wal' });
    advanceCommit(state, INVALID_LSN);
    if (isControlFileStale(state)) effects.push(persist(state));
  }
  for (const [connection, link] of state.proposers) {
    if (!link.awaitsFlush) continue;
    link.awaitsFlush = false;
    effects.push(appendReply(state, connection, link.term));
  }
  return effects;
}

function announce(state: AcceptorState): AcceptorEffect[] {
  return [...state.proposers].map(([connection, link]) => appendReply(state, connection, link.term));
}

/** A peer's commit position is about our log only when both logs end in the same term. */
function peerInfo(state: AcceptorState, input: PeerInfoInput): AcceptorEffect[] {
  if (state.control.timelineStartLsn === INVALID_LSN) return [];
  if (input.lastLogTerm !== 0 && input.lastLogTerm === acceptorLastLogTerm(state)) {
    advanceCommit(state, input.commitLsn);
  }
  raise(state, 'backupLsn', input.backupLsn);
  raise(state, 'peerHorizonLsn', input.peerHorizonLsn);
  raise(state, 'remoteConsistentLsn', input.remoteConsistentLsn);
  return isControlFileStale(state) ? [persist(state)] : [];
}

function feedback(state: AcceptorState, input: FeedbackInput): AcceptorEffect[] {
  raise(state, 'remoteConsistentLsn', input.remoteConsistentLsn);
  return isControlFileStale(state) ? [persist(state)] : [];
}

function isDirty(state: AcceptorState): boolean {
  return state.syncedLsn !== state.writeLsn;
}

function major(pgVersion: number): number {
  return Math.floor(pgVersion / 10000);
}

function checkInvariants(state: AcceptorState): void {
  const { control, flushLsn, writeRecordLsn, writeLsn, syncedLsn } = state;
  assert(
    control.timelineStartLsn <= control.commitLsn && control.commitLsn <= flushLsn && flushLsn <= writeRecordLsn,
    () =>
      `positions out of order: ${[control.timelineStartLsn, control.commitLsn, flushLsn, writeRecordLsn].join(' ')}`,
  );
  assert(
    writeRecordLsn <= writeLsn && flushLsn <= syncedLsn && syncedLsn <= writeLsn,
    () => `positions out of order: ${[flushLsn, syncedLsn, writeRecordLsn, writeLsn].join(' ')}`,
  );
  assert(
    state.persisted.term === control.term && state.persisted.history === control.history,
    () => `term ${control.term} was adopted without being persisted`,
  );
  assert(
    lsnMax(control.localStartLsn, control.timelineStartLsn) <= writeLsn,
    () => `the log ends at ${writeLsn}, before it begins`,
  );
}
