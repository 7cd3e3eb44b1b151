/**
 * Makes a branch independent of its ancestor: its history below the branch point is copied into layers of its own, then it has no
 * ancestor, and the ancestor's other branches from there or before become branches of it, as they would be had it been first. Afterwards
 * the ancestor can be deleted.
 *
 * Copying goes on while all of them are in use. Then those concerned are closed, their indexes changed, the detached one's first, and
 * loaded again: computes reconnect. A crash between two indexes leaves branches of the old ancestor, which still has what they need;
 * detaching again finishes it.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TimelineId } from '#shared/core/ids.js';
import { formatTtid } from '#shared/core/ids.js';
import type { IndexPart } from '../core/storage/index-part.js';
import { encodeIndexPart } from '../core/storage/index-part.js';
import type { AncestorPoint } from '../core/storage/store.js';
import { copyAncestorLayers, detachedIndex, inheritanceOf, reparentedIndex } from '../io/detach.js';
import { indexKey } from '../io/object-keys.js';
import type { StorageEnv } from '../io/storage-env.js';
import { loadIndex } from '../io/tenant-storage.js';
import type { ActiveTimeline } from './active-timeline.js';

export interface DetachResult {
  /** What was its ancestor. */
  readonly detachedFrom: AncestorPoint;
  /** Timelines that are its branches now. */
  readonly reparented: readonly TimelineId[];
}

/** What a tenant lets this do. */
export interface DetachHost {
  readonly storage: StorageEnv;
  readonly generation: number;
  readonly timelines: ReadonlyMap<TimelineId, ActiveTimeline>;
  find(timelineId: TimelineId): ActiveTimeline;
  /** One change of the tenant at a time. */
  exclusively<T>(act: () => Promise<T>): Promise<T>;
  /** Flushes and closes timelines, has `change` done, and loads them again, whether that failed or not. */
  reloadAround(timelines: readonly ActiveTimeline[], change: () => Promise<void>): Promise<void>;
}

export async function detachAncestor(
  host: DetachHost,
  timelineId: TimelineId,
  signal: AbortSignal,
): Promise<DetachResult> {
  const branch = host.find(timelineId);
  const { ancestor } = branch.store;
  const copies = ancestor === null ? null : await copyAncestorLayers(host.storage, branch.store, signal);
  return host.exclusively(async () => {
    const current = host.find(timelineId);
    const from = current.store.ancestor ?? current.store.index.detachedFrom;
    if (from === undefined) {
      throw new StorageError('precondition', `timeline ${formatTtid(current.ttid)} has no ancestor`);
    }
    if (current !== branch && current.store.ancestor !== null) {
      throw new StorageError('unavailable', `timeline ${timelineId} was loaded anew meanwhile`);
    }
    const siblings = siblingsUpTo(host, current, from);
    const isAlone = current.store.ancestor === null;
    if (isAlone && siblings.length === 0) return { detachedFrom: from, reparented: childrenOf(host, timelineId) };
    const inheritance = isAlone || copies === null ? null : inheritanceOf(current.store, copies);
    const roots = isAlone ? siblings : [current, ...siblings];
    await host.reloadAround(withBranches(host, roots), async () => {
      if (inheritance !== null) await change(host, timelineId, (index) => detachedIndex(index, inheritance));
      for (const { ttid, store } of siblings) {
        const { cutoff } = store.history;
        await change(host, ttid.timelineId, (index) => reparentedIndex(index, timelineId, cutoff));
      }
      for (const { store } of roots) store.parent?.source.history.removeBranch(store.ttid.timelineId);
    });
    return { detachedFrom: from, reparented: siblings.map(({ ttid }) => ttid.timelineId) };
  });
}

function childrenOf(host: DetachHost, timelineId: TimelineId): TimelineId[] {
  return [...host.timelines.values()]
    .filter(({ store }) => store.ancestor?.timelineId === timelineId)
    .map(({ ttid }) => ttid.timelineId);
}

/** Other branches of the ancestor, of what the detached one has too. */
function siblingsUpTo(host: DetachHost, branch: ActiveTimeline, from: AncestorPoint): ActiveTimeline[] {
  return [...host.timelines.values()].filter(({ store }) => {
    const { ancestor } = store;
    return store !== branch.store && ancestor?.timelineId === from.timelineId && ancestor.lsn <= from.lsn;
  });
}

/** They hold on to the timelines that they branched from. */
function withBranches(host: DetachHost, roots: readonly ActiveTimeline[]): ActiveTimeline[] {
  const found = new Set(roots);
  for (const timeline of found) {
    for (const other of host.timelines.values()) {
      if (other.store.ancestor?.timelineId === timeline.ttid.timelineId) found.add(other);
    }
  }
  return [...found];
}

/** Of a closed timeline: what the object store has is all there is. */
async function change(
  { storage, generation, find }: DetachHost,
  timelineId: TimelineId,
  act: (index: IndexPart) => IndexPart,
): Promise<void> {
  const { ttid } = find(timelineId);
  const found = await loadIndex(storage.objectStore, ttid, generation);
  if (found === null) throw new StorageError('not-found', `timeline ${formatTtid(ttid)} has no index`);
  await storage.objectStore.put(indexKey(ttid, generation), encodeIndexPart(act(found.index)));
}
