/** Which WAL a safekeeper may remove from its disk. */
import { lsn, lsnMax, lsnMin, type Lsn } from '#shared/core/lsn.js';
import { segmentStart } from '#shared/postgres/wal-layout.js';
import type { ControlState } from './acceptor-types.js';

/**
 * WAL below is in the object store as WAL and as layers, and nobody near the end needs it: peers and readers that lag by more than
 * `lagBytesMax` read the object store, or one that is gone for good would fill the disks of the others. `persisted`: what the control
 * file holds, since that is what is known after a crash; a start decodes from its commit position. A segment's start.
 */
export function removalHorizon(persisted: ControlState, needs: { keepFrom: Lsn; lagBytesMax: number }): Lsn {
  const { commitLsn, backupLsn, remoteConsistentLsn, peerHorizonLsn, segSize } = persisted;
  const lagging = lsn(Math.max(0, commitLsn - needs.lagBytesMax));
  const safe = lsnMin(lsnMin(remoteConsistentLsn, backupLsn), commitLsn);
  const wanted = lsnMin(lsnMax(peerHorizonLsn, lagging), lsnMax(needs.keepFrom, lagging));
  return segmentStart(lsnMin(safe, wanted), segSize);
}
