/**
 * A safekeeper that lacks committed WAL gets it from a peer when no compute is there to bring it. It takes the part of the leader of the
 * peer's last term towards its own acceptor: the peer's log of that term is a part of that leader's log, so nothing is written here
 * that the leader would not have written. Votes are given to nobody by it.
 */
import { streamingStart } from '#shared/consensus/term-history.js';
import { formatLsn, lsnMin, type Lsn } from '#shared/core/lsn.js';
import type { StorageError } from '#shared/core/errors.js';
import { APPEND_BYTES_MAX } from '../core/acceptor-append.js';
import type { PeerInfo } from '../core/peer-book.js';
import { statusOfPeer, streamWal } from './pull.js';
import type { Timeline } from './timeline.js';

/** The peer to recover from; null: nothing is missing, a compute is there, or nobody can be followed. */
export function donorFor(timeline: Timeline): PeerInfo | null {
  const { view } = timeline;
  if (timeline.proposerCount > 0 || timeline.isEvicted) return null;
  const donor = timeline.peers.mostAdvanced(performance.now());
  if (donor === null || donor.commitLsn <= view.flushLsn) return null;
  // Its log must be that of the term it is in, and we must not be in a later one.
  const canBeFollowed = donor.term === donor.lastLogTerm && donor.term >= view.control.term;
  return canBeFollowed ? donor : null;
}

export async function recoverFromPeer(timeline: Timeline, donor: PeerInfo): Promise<void> {
  const source = await statusOfPeer(donor.grpcAddr, timeline.ttid);
  const { term, history, commitLsn } = source.control;
  const { view } = timeline;
  if (source.lastLogTerm !== term || term < view.control.term || source.flushLsn <= view.flushLsn) return;
  const start = streamingStart(history, view.control.history, view.flushLsn);
  const generation = view.control.membership.generation;
  let failure: StorageError | null = null;
  const sink = {
    reply: () => undefined,
    fail: (error: StorageError) => {
      failure = error;
    },
  };
  const connection = timeline.connect(sink);
  const from = { connection: connection.id, generation, term };
  const range = { ttid: timeline.ttid, addr: donor.grpcAddr, term, from: start, to: source.flushLsn };
  try {
    await connection.submit({ kind: 'elected', ...from, startStreamingAt: start, history });
    for await (const { at, bytes } of streamWal(range)) {
      for (let done = 0; done < bytes.length; done += APPEND_BYTES_MAX) {
        const piece = bytes.subarray(done, done + APPEND_BYTES_MAX);
        const beginLsn = (at + done) as Lsn;
        const positions = { beginLsn, commitLsn: lsnMin(commitLsn, source.flushLsn), truncateLsn: 0 as Lsn };
        await connection.submit({ kind: 'append', ...from, ...positions, bytes: piece });
        if (failure !== null) throw failure as StorageError;
      }
    }
    // Everything queued so far is done when this is.
    await timeline.run({ kind: 'checkpoint' });
    if (failure !== null) throw failure as StorageError;
  } finally {
    connection.close();
  }
  timeline.log.info({ peer: donor.nodeId, term, flushLsn: formatLsn(source.flushLsn) }, 'recovered WAL from a peer');
}
