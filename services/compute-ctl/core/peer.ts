/** What the walproposer remembers about one safekeeper, and which of them holds the most advanced log. */
import { compareLogs, lastLogTerm } from '#shared/consensus/term-history.js';
import { INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { StandbyFeedback, VoteResponse } from './messages.js';

/** Index into the configured safekeepers. */
export type PeerIndex = number;

/**
 * - offline: no connection.
 * - greeting: connected, the greeting was sent.
 * - greeted: it answered; no vote was asked yet.
 * - voting: asked for its vote in the present term.
 * - voted: gave it; the election is not decided yet.
 * - streaming: knows of the election and takes WAL.
 */
export type PeerPhase = 'offline' | 'greeting' | 'greeted' | 'voting' | 'voted' | 'streaming';

export interface Peer {
  readonly index: PeerIndex;
  /** host:port; empty when the proposer was not told. */
  readonly addr: string;
  /** No member of the present configuration: not connected to. */
  gone: boolean;
  phase: PeerPhase;
  /** Number of the WAL stream; the answer to a read for an older stream is dropped by it. */
  epoch: number;
  /** A connection was tried and ended, or a greeting came: there is no reason to wait for it any more. */
  tried: boolean;
  nodeId: bigint | null;
  /** Term it greeted with. */
  term: number;
  /** Its vote in the present term; kept when the connection ends, for a vote is durable. */
  vote: VoteResponse | null;
  /** Durable there in the present term, as it said; 0 until it answered an append of this term. */
  flushLsn: Lsn;
  /** Its own commit position, as it last said. */
  commitLsn: Lsn;
  /** Commit position in the last append to it. */
  toldCommitLsn: Lsn;
  /** First byte not handed to the connection yet. */
  nextLsn: Lsn;
  readPending: boolean;
  /** What its replicas need; null when it has not said, or is not connected. */
  standbyFeedback: StandbyFeedback | null;
  lastSentMs: number;
  lastHeardMs: number;
}

export function newPeer(index: PeerIndex, addr: string): Peer {
  return {
    index,
    addr,
    gone: false,
    phase: 'offline',
    epoch: 0,
    tried: false,
    nodeId: null,
    term: 0,
    vote: null,
    flushLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    toldCommitLsn: INVALID_LSN,
    nextLsn: INVALID_LSN,
    readPending: false,
    standbyFeedback: null,
    lastSentMs: 0,
    lastHeardMs: 0,
  };
}

/** The vote with the greatest (last log term, flush position): its log contains everything that may be committed. */
export function chooseDonor(peers: readonly Peer[]): { peer: Peer; vote: VoteResponse } | null {
  let best: { peer: Peer; vote: VoteResponse } | null = null;
  for (const peer of peers) {
    if (peer.vote === null) continue;
    if (best === null || compareLogs(logOf(peer.vote), logOf(best.vote)) > 0) best = { peer, vote: peer.vote };
  }
  return best;
}

function logOf(vote: VoteResponse): { lastLogTerm: number; flushLsn: Lsn } {
  return { lastLogTerm: lastLogTerm(vote.termHistory, vote.flushLsn), flushLsn: vote.flushLsn };
}

/** What the replicas of all safekeepers need together; null when none ever said. */
export function oldestNeeded(peers: readonly Peer[]): StandbyFeedback | null {
  const asked = peers.flatMap(({ standbyFeedback }) => (standbyFeedback === null ? [] : [standbyFeedback]));
  if (asked.length === 0) return null;
  return {
    xmin: asked.reduce((oldest, { xmin }) => olderXid(oldest, xmin), 0n),
    catalogXmin: asked.reduce((oldest, { catalogXmin }) => olderXid(oldest, catalogXmin), 0n),
  };
}

/** The lower of those that are not 0. */
function olderXid(a: bigint, b: bigint): bigint {
  if (a === 0n) return b;
  return b === 0n || a < b ? a : b;
}
