/** Effects that several inputs cause. */
import { INVALID_LSN } from '#shared/core/lsn.js';
import type { AcceptorEffect, AcceptorReply, AcceptorState } from './acceptor-types.js';

/** A proposer of a term that is over is only told the term: positions of another's log would mislead it. */
export function appendReply(state: AcceptorState, connection: number, term: number): AcceptorEffect {
  const { control } = state;
  const current = control.term === term;
  const reply: AcceptorReply = {
    kind: 'append',
    generation: control.membership.generation,
    term: control.term,
    flushLsn: current ? state.flushLsn : INVALID_LSN,
    commitLsn: current ? control.commitLsn : INVALID_LSN,
  };
  return { kind: 'reply', connection, reply };
}

export function persist(state: AcceptorState): AcceptorEffect {
  state.persisted = state.control;
  return { kind: 'persist', control: state.control };
}
