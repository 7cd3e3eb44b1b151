/** How the acceptor's positions advance, and when the control file must follow. */
import { lsnMax, lsnMin, type Lsn } from '#shared/core/lsn.js';
import type { AcceptorState, ControlState, PeerInfoInput } from './acceptor-types.js';

/** Raises commitLsn to the candidate, or to what the leader told before, but never beyond what is durable here. */
export function advanceCommit(state: AcceptorState, candidate: Lsn): void {
  const { control } = state;
  const commitLsn = lsnMin(lsnMax(lsnMax(candidate, state.leaderCommitLsn), control.commitLsn), state.flushLsn);
  if (commitLsn > control.commitLsn) state.control = { ...control, commitLsn };
}

export function raise(
  state: AcceptorState,
  name: 'backupLsn' | 'peerHorizonLsn' | 'remoteConsistentLsn',
  to: Lsn,
): void {
  if (to > state.control[name]) state.control = { ...state.control, [name]: to };
}

/**
 * Positions are written lazily: a start decodes WAL from the persisted commitLsn, so it may lag by about a segment. At once, when
 * commitLsn reaches the start of the leader's own term: from then on a new leader may rely on it without asking again.
 */
export function isControlFileStale(state: AcceptorState): boolean {
  const { control, persisted } = state;
  if (control === persisted) return false;
  const termStartLsn = control.history.at(-1)?.lsn ?? 0;
  if (persisted.commitLsn < termStartLsn && termStartLsn <= control.commitLsn) return true;
  return (
    control.commitLsn - persisted.commitLsn >= control.segSize ||
    control.backupLsn - persisted.backupLsn > control.segSize ||
    control.peerHorizonLsn - persisted.peerHorizonLsn > control.segSize ||
    control.remoteConsistentLsn - persisted.remoteConsistentLsn > control.segSize
  );
}

/** Whether a peer's info could change anything: most say what is known. */
export function peerInfoMatters(own: { control: ControlState; flushLsn: Lsn }, info: PeerInfoInput): boolean {
  const { control } = own;
  return (
    (info.commitLsn > control.commitLsn && control.commitLsn < own.flushLsn) ||
    info.backupLsn > control.backupLsn ||
    info.peerHorizonLsn > control.peerHorizonLsn ||
    info.remoteConsistentLsn > control.remoteConsistentLsn
  );
}
