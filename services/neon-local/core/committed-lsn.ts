/** Up to where WAL is committed, seen from outside by the positions of the safekeepers. Pure. */
import { INVALID_LSN, lsnMax } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';

export interface SafekeeperPositions {
  readonly commitLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly lastLogTerm: number;
}

/**
 * A position at or above every commit that was acknowledged to a client. Safekeepers hear of commit_lsn a moment after the quorum made it
 * true, so when all of them answer, in one term, the quorum's flush position is the newer truth. With fewer answers it could be
 * WAL that never gets committed, and the reported commit positions must do.
 */
export function committedLsn(answers: readonly SafekeeperPositions[], memberCount: number): Lsn {
  const reported = answers.reduce((at, answer) => lsnMax(at, answer.commitLsn), INVALID_LSN);
  const oneTerm = answers.every((answer) => answer.lastLogTerm === answers[0]?.lastLogTerm);
  if (answers.length < memberCount || !oneTerm) return reported;
  const flushed = answers.map((answer) => answer.flushLsn).sort((a, b) => b - a);
  const quorum = Math.floor(memberCount / 2) + 1;
  return lsnMax(reported, flushed[quorum - 1] ?? INVALID_LSN);
}
