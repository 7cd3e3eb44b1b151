/** Puts WAL of one timeline into the object store: whole segments by the elected safekeeper, its unfinished one by each. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, type Lsn } from '#shared/core/lsn.js';
import { segmentNumber, segmentOffset, segmentStart } from '#shared/postgres/wal-layout.js';
import type { PartialObject } from '../core/acceptor-types.js';
import { chooseUploader } from '../core/peer-book.js';
import type { Timeline } from './timeline.js';
import type { WalObjects } from './wal-objects.js';

/** Segments in memory and on their way at once, for one timeline. */
const SEGMENTS_AT_ONCE = 3;

/** Whether whole committed segments are missing in the store. */
export function isBackupWanted({ objects, view }: Timeline): boolean {
  const { control, commitLsn } = view;
  return (
    objects !== null && segmentNumber(commitLsn, control.segSize) > segmentNumber(control.backupLsn, control.segSize)
  );
}

export function isUploader(timeline: Timeline, lagBytesMax: number): boolean {
  const { view, nodeId, ttid } = timeline;
  const { backupLsn, localStartLsn } = view.control;
  const own = { nodeId, commitLsn: view.commitLsn, backupLsn, localStartLsn };
  const others = timeline.peers.alive(performance.now()).filter((peer) => peer.nodeId !== nodeId);
  return chooseUploader([own, ...others], ttid.timelineId, lagBytesMax) === nodeId;
}

/** Uploads what is missing as long as `mayGoOn`; the backup position follows in order. */
export async function backUpSegments(timeline: Timeline, objects: WalObjects, mayGoOn: () => boolean): Promise<void> {
  while (isBackupWanted(timeline) && mayGoOn()) {
    const { control, commitLsn } = timeline.view;
    const { segSize, backupLsn } = control;
    const first = segmentNumber(backupLsn, segSize);
    const end = Math.min(segmentNumber(commitLsn, segSize), first + SEGMENTS_AT_ONCE);
    const upload = async (segno: number): Promise<void> => {
      const start = lsn(segno * segSize);
      await objects.putSegment(control, segno, await readSegment(timeline, start, lsn(start + segSize)));
    };
    await Promise.all(Array.from({ length: end - first }, (_, at) => upload(first + at)));
    await timeline.run({ kind: 'backup', backupLsn: lsn(end * segSize) });
    timeline.log.debug({ backupLsn: formatLsn(lsn(end * segSize)) }, 'uploaded WAL segments');
  }
}

/** From the files here; all of it must be there. */
export async function readSegment(timeline: Timeline, from: Lsn, to: Lsn): Promise<Buffer> {
  const files = timeline.openFiles();
  try {
    const buffer = Buffer.alloc(to - from);
    const count = await files.read(from, buffer);
    if (count === buffer.length) return buffer;
    throw new StorageError('not-found', `WAL from ${formatLsn(from)} to ${formatLsn(to)} is not whole here`);
  } finally {
    await files.close();
  }
}

/** Whether the unfinished segment is not in the store as it is now. */
export function isPartialWanted(timeline: Timeline): boolean {
  const { objects, view } = timeline;
  const { control, flushLsn } = view;
  if (objects === null || timeline.isEvicted || segmentOffset(flushLsn, control.segSize) === 0) return false;
  return control.partials.length !== 1 || !control.partials.some((one) => isCurrent(timeline, one));
}

function isCurrent({ view }: Timeline, one: PartialObject): boolean {
  const { flushLsn, commitLsn, lastLogTerm } = view;
  return (
    one.status === 'uploaded' && one.flushLsn === flushLsn && one.commitLsn === commitLsn && one.term === lastLogTerm
  );
}

/**
 * Replaces the partial object. Every object is in the control file before it exists and until it is gone, so that none is forgotten;
 * the old one goes only when the new one is there. Log entries of one term never change, so what was read is right if the term is still
 * the same afterwards.
 */
export async function backUpPartial(timeline: Timeline, objects: WalObjects): Promise<void> {
  const { view, nodeId } = timeline;
  const { control, flushLsn, commitLsn, lastLogTerm: term } = view;
  const fresh: PartialObject = { status: 'uploading', term, flushLsn, commitLsn };
  const set = (partials: readonly PartialObject[]): Promise<void> => timeline.run({ kind: 'partials', partials });
  const isSame = (one: PartialObject): boolean =>
    one.term === term && one.flushLsn === flushLsn && one.commitLsn === commitLsn;
  const others = timeline.view.control.partials.filter((one) => !isSame(one));
  const doomed = others.map((one): PartialObject => ({ ...one, status: 'deleting' }));
  // What an upload that was broken off may have left is of no use; what is whole stays until the new one is there.
  await set([...others.map((one, at) => (one.status === 'uploaded' ? one : (doomed[at] as PartialObject))), fresh]);
  const bytes = await readSegment(timeline, segmentStart(flushLsn, control.segSize), flushLsn);
  await objects.putPartial(control, nodeId, fresh, bytes);
  if (timeline.view.lastLogTerm !== term) {
    await objects.deletePartials(control, nodeId, [fresh]);
    await set(others);
    return;
  }
  const done: PartialObject = { ...fresh, status: 'uploaded' };
  await set([...doomed, done]);
  await objects.putControl(nodeId, timeline.view.control);
  await objects.deletePartials(control, nodeId, doomed);
  await set([done]);
  timeline.log.debug({ flushLsn: formatLsn(flushLsn) }, 'uploaded the unfinished segment');
}
