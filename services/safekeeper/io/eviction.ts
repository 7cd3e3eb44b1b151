/**
 * Timelines that nobody uses leave the disk: their last segment goes to the object store, where the others are already, and comes back
 * when somebody needs it. The control file stays, and so does everything that peers and the broker are told.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import { formatLsn, type Lsn } from '#shared/core/lsn.js';
import { segmentOffset, segmentStart } from '#shared/postgres/wal-layout.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { drainRecords } from '#shared/postgres/wal-end.js';
import type { ControlState } from '../core/acceptor-types.js';
import { whyNotEvictable } from '../core/acceptor-upkeep.js';
import { readSegment } from './wal-backup.js';
import type { Timeline } from './timeline.js';

/** Whether only time is missing. */
export function isEvictable(timeline: Timeline): boolean {
  const { view, objects } = timeline;
  const isIdle = timeline.proposerCount === 0 && timeline.readerCount === 0;
  return objects !== null && isIdle && !timeline.isEvicted && whyNotEvictable(view) === null;
}

/** Compares what is here with what is in the store, then lets go of the disk. */
export async function evict(timeline: Timeline): Promise<void> {
  const { view, objects } = timeline;
  const { control, flushLsn } = view;
  const partial = control.partials.find((one) => one.status === 'uploaded' && one.flushLsn === flushLsn);
  if (objects === null) return;
  if (partial !== undefined && segmentOffset(flushLsn, control.segSize) > 0) {
    const here = await readSegment(timeline, segmentStart(flushLsn, control.segSize), flushLsn);
    const there = await objects.getPartial(control, timeline.nodeId, partial);
    if (!here.equals(there)) {
      throw new StorageError('corrupt', `the partial object of ${formatTtid(control.ttid)} differs from the WAL here`);
    }
  }
  await timeline.run({ kind: 'evict' });
  timeline.log.info({ flushLsn: formatLsn(flushLsn) }, 'evicted timeline to the object store');
}

export async function restoreEvicted(
  timeline: Timeline,
  restore: (at: Lsn, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const { objects, view } = timeline;
  const { control } = view;
  const { evictedLsn, segSize } = control;
  const name = formatTtid(control.ttid);
  if (objects === null) throw new StorageError('unavailable', `${name} is in an object store, but none is configured`);
  if (segmentOffset(evictedLsn, segSize) > 0) {
    const partial = control.partials.find((one) => one.status === 'uploaded' && one.flushLsn === evictedLsn);
    if (partial === undefined) throw new StorageError('corrupt', `${name} was evicted without its last segment`);
    const bytes = await objects.getPartial(control, timeline.nodeId, partial);
    checkEnd(control, bytes);
    await restore(evictedLsn, bytes);
  }
  await timeline.run({ kind: 'resident' });
  timeline.log.info({ flushLsn: formatLsn(evictedLsn) }, 'brought timeline back from the object store');
}

/** The records behind the commit position must be whole, as at any start. */
function checkEnd({ commitLsn, evictedLsn, segSize }: ControlState, bytes: Uint8Array): void {
  if (commitLsn < segmentStart(evictedLsn, segSize)) return;
  const decoder = new WalStreamDecoder({ startLsn: commitLsn, segSize, parseBlocks: false, checkPrev: false });
  decoder.feed(bytes.subarray(segmentOffset(commitLsn, segSize)));
  drainRecords(decoder);
  if (decoder.recordEndLsn === evictedLsn) return;
  const ends = `${formatLsn(decoder.recordEndLsn)}, not at ${formatLsn(evictedLsn)}`;
  throw new StorageError('corrupt', `the last segment in the object store ends at ${ends}`);
}
