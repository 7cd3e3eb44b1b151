/** The first control state of a timeline. */
import { INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import type { ControlState, Membership } from './acceptor-types.js';

/** A timeline that no leader has been on yet. Its log begins at `startLsn`, and its history with term 0; or later, when 0. */
export function newControlState(options: {
  readonly ttid: ControlState['ttid'];
  readonly startLsn: Lsn;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly membership: Membership;
  readonly nowMs: number;
}): ControlState {
  const { startLsn: start } = options;
  return {
    ttid: options.ttid,
    membership: options.membership,
    term: 0,
    history: start === INVALID_LSN ? [] : [{ term: 0, lsn: start }],
    pgVersion: options.pgVersion,
    systemId: options.systemId,
    segSize: options.segSize,
    createdAtMs: options.nowMs,
    timelineStartLsn: start,
    localStartLsn: start,
    commitLsn: start,
    backupLsn: start,
    peerHorizonLsn: start,
    remoteConsistentLsn: start,
    partials: [],
    evictedLsn: INVALID_LSN,
  };
}
