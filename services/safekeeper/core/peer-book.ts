/** What other safekeepers of one timeline said last, and which of all of them uploads its WAL. */
import type { TimelineId } from '#shared/core/ids.js';
import { INVALID_LSN, lsnMax, type Lsn } from '#shared/core/lsn.js';
import { compareLogs } from '#shared/consensus/term-history.js';

/** A peer that was silent for so long is not counted on; it speaks each second while its timeline is active. */
export const PEER_SILENCE_MS = 5_000;
/** More than any timeline has; a stranger cannot make the book grow. */
const PEERS_COUNT_MAX = 100;

export interface PeerInfo {
  readonly nodeId: number;
  readonly grpcAddr: string;
  readonly term: number;
  readonly lastLogTerm: number;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly localStartLsn: Lsn;
}

export class PeerBook {
  private readonly peers = new Map<number, { readonly info: PeerInfo; readonly heardMs: number }>();

  put(info: PeerInfo, nowMs: number): void {
    if (this.peers.size >= PEERS_COUNT_MAX && !this.peers.has(info.nodeId)) return;
    this.peers.set(info.nodeId, { info, heardMs: nowMs });
  }

  /** Heard of lately, by node id. */
  alive(nowMs: number): PeerInfo[] {
    return [...this.peers.values()]
      .filter(({ heardMs }) => nowMs - heardMs < PEER_SILENCE_MS)
      .map(({ info }) => info)
      .sort((a, b) => a.nodeId - b.nodeId);
  }

  /** The one with the newest log. */
  mostAdvanced(nowMs: number): PeerInfo | null {
    let best: PeerInfo | null = null;
    for (const info of this.alive(nowMs)) if (best === null || compareLogs(info, best) > 0) best = info;
    return best;
  }
}

export interface UploaderCandidate {
  readonly nodeId: number;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly localStartLsn: Lsn;
}

/**
 * The node that uploads whole segments: of those that have the WAL and do not lag, one by the timeline's id, so that the timelines
 * spread over the nodes. Everybody computes it from what the broker told; when views differ for a moment two upload the same bytes under
 * the same name. Null: nobody has the WAL that comes next.
 */
export function chooseUploader(
  candidates: readonly UploaderCandidate[],
  timelineId: TimelineId,
  lagBytesMax: number,
): number | null {
  const backupLsn = candidates.reduce<Lsn>((lsn, one) => lsnMax(lsn, one.backupLsn), INVALID_LSN);
  const newest = candidates.reduce<Lsn>((lsn, one) => lsnMax(lsn, one.commitLsn), INVALID_LSN);
  const eligible = candidates
    .filter((one) => one.localStartLsn <= backupLsn && one.commitLsn >= newest - lagBytesMax)
    .sort((a, b) => a.nodeId - b.nodeId);
  return eligible[Number.parseInt(timelineId.slice(-8), 16) % eligible.length]?.nodeId ?? null;
}
