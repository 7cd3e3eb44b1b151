/** The Elected message: a leader tells where its stream begins and what its history is; our log is cut to fit and joins it. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsnMax, type Lsn } from '#shared/core/lsn.js';
import {
  checkTermHistory,
  formatTermHistory,
  streamingStart,
  type TermHistory,
} from '#shared/consensus/term-history.js';
import type { AcceptorEffect, AcceptorState, ControlState, ElectedInput } from './acceptor-types.js';
import { persist } from './effects.js';
import { checkGeneration } from './membership.js';

export function elected(state: AcceptorState, input: ElectedInput): AcceptorEffect[] {
  checkGeneration(state.control, input.generation);
  // Somebody newer leads already; the sender finds out when it appends.
  if (state.control.term > input.term) return [];
  checkAnnouncement(state, input);
  const start = input.startStreamingAt;
  const { control } = state;
  const keepsLog = state.decoder !== null && start === state.writeLsn && start === state.writeRecordLsn;
  // A new one in any case: what the first record of a leader says about its predecessor is not for one acceptor to judge, who
  // happened to see that predecessor, while others take the record.
  const decoder = state.makeDecoder(start, control.segSize);

  const effects: AcceptorEffect[] = [];
  if (control.term < input.term) {
    state.control = { ...control, term: input.term };
    effects.push(persist(state));
  }
  if (state.flushLsn === INVALID_LSN) effects.push({ kind: 'start-wal', at: start, systemId: control.systemId });
  else if (!keepsLog) effects.push({ kind: 'truncate-wal', to: start });
  state.decoder = decoder;
  state.writeLsn = start;
  state.writeRecordLsn = start;
  if (!keepsLog) state.syncedLsn = start;
  state.flushLsn = keepsLog ? state.flushLsn : start;
  state.leaderCommitLsn = INVALID_LSN;
  const next = adopt(state.control, input.history, start);
  if (changed(state.control, next)) {
    state.control = next;
    effects.push(persist(state));
  }
  state.proposers.set(input.connection, { term: input.term, awaitsFlush: false });
  return effects;
}

/**
 * The proposer computed the start from our answer to its vote request. We compute it again from what we have now: a difference
 * means the message is late (something was appended meanwhile on another connection), or one of us is wrong.
 */
function checkAnnouncement(state: AcceptorState, input: ElectedInput): void {
  const { control, flushLsn } = state;
  const { history, startStreamingAt: start } = input;
  checkTermHistory(history);
  if (history.at(-1)?.term !== input.term) {
    throw new StorageError('invalid', `leader of term ${input.term} has the history [${formatTermHistory(history)}]`);
  }
  const expected = streamingStart(history, control.history, flushLsn);
  if (start !== expected) {
    throw new StorageError(
      'precondition',
      `leader of term ${input.term} wants to stream from ${formatLsn(start)}, but the logs part at ${formatLsn(expected)}: ` +
        `own [${formatTermHistory(control.history)}] up to ${formatLsn(flushLsn)}, its [${formatTermHistory(history)}]`,
    );
  }
  if (start < control.commitLsn) {
    throw new StorageError(
      'corrupt',
      `leader of term ${input.term} would drop committed WAL: from ${formatLsn(start)}, committed ${formatLsn(control.commitLsn)}`,
    );
  }
  if (start < control.localStartLsn) {
    throw new StorageError(
      'precondition',
      `leader of term ${input.term} streams from ${formatLsn(start)}, but WAL here begins at ${formatLsn(control.localStartLsn)}`,
    );
  }
  if (flushLsn !== INVALID_LSN && start > flushLsn) {
    throw new StorageError(
      'precondition',
      `leader of term ${input.term} begins at ${formatLsn(start)}, which leaves a gap behind ${formatLsn(flushLsn)}`,
    );
  }
  if (start === INVALID_LSN) throw new StorageError('invalid', `leader of term ${input.term} streams from 0/0`);
}

/** The whole history is adopted, also entries beyond what we hold: they count once the log gets there. */
function adopt(control: ControlState, history: TermHistory, start: Lsn): ControlState {
  const begin = history[0]?.lsn ?? start;
  const timelineStartLsn = control.timelineStartLsn === INVALID_LSN ? begin : control.timelineStartLsn;
  return {
    ...control,
    history,
    timelineStartLsn,
    localStartLsn: control.localStartLsn === INVALID_LSN ? start : control.localStartLsn,
    commitLsn: lsnMax(control.commitLsn, timelineStartLsn),
    backupLsn: lsnMax(control.backupLsn, timelineStartLsn),
    peerHorizonLsn: lsnMax(control.peerHorizonLsn, timelineStartLsn),
    remoteConsistentLsn: lsnMax(control.remoteConsistentLsn, timelineStartLsn),
  };
}

function changed(a: ControlState, b: ControlState): boolean {
  return (
    formatTermHistory(a.history) !== formatTermHistory(b.history) ||
    a.timelineStartLsn !== b.timelineStartLsn ||
    a.localStartLsn !== b.localStartLsn
  );
}
