/** Sizes of a tenant and its timelines, gathered from their stores for core/sizes/synthetic-size.ts. */
import type { TimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnMax } from '#shared/core/lsn.js';
import type { SizedTimeline } from '../core/sizes/synthetic-size.js';
import { syntheticSize } from '../core/sizes/synthetic-size.js';
import { TimelineView } from '../core/view/timeline-view.js';
import type { ActiveTimeline } from './active-timeline.js';

export interface TimelineSizes {
  readonly timelineId: TimelineId;
  readonly logicalSizeBytes: number;
  readonly physicalSizeBytes: number;
  readonly historySizeBytes: number;
  readonly syntheticSizeBytes: number;
}

export interface TenantSizes {
  readonly syntheticSizeBytes: number;
  readonly physicalSizeBytes: number;
  /** Sorted by id. */
  readonly timelines: readonly TimelineSizes[];
}

export async function tenantSizes(timelines: readonly ActiveTimeline[]): Promise<TenantSizes> {
  const sized: SizedTimeline[] = [];
  for (const timeline of timelines) sized.push(await sizedTimeline(timeline));
  const synthetic = syntheticSize(sized);
  const each = timelines.map((timeline, i): TimelineSizes => {
    const { timelineId } = timeline.ttid;
    const { logicalSizeBytes, physicalSizeBytes } = timeline.status();
    const historySizeBytes = sized[i]!.headLsn - sized[i]!.cutoffLsn;
    const syntheticSizeBytes = synthetic.timelines.get(timelineId) ?? 0;
    return { timelineId, logicalSizeBytes, physicalSizeBytes, historySizeBytes, syntheticSizeBytes };
  });
  each.sort((a, b) => (a.timelineId < b.timelineId ? -1 : 1));
  const physicalSizeBytes = each.reduce((sum, one) => sum + one.physicalSizeBytes, 0);
  return { syntheticSizeBytes: synthetic.totalBytes, physicalSizeBytes, timelines: each };
}

/** The cutoff may rise while sizes are read: what is refused then is read at the new one. */
async function sizedTimeline({ store, view }: ActiveTimeline): Promise<SizedTimeline> {
  const { ancestor, lastRecordLsn: headLsn } = store;
  const cutoff = store.history.cutoff;
  const beginLsn = ancestor?.lsn ?? store.initdbLsn;
  const cutoffLsn = lsnMax(cutoff, beginLsn);
  const release = store.history.hold(cutoffLsn);
  try {
    const cutoffBytes = await view.logicalSize(cutoffLsn);
    const beginBytes = beginLsn === cutoffLsn ? cutoffBytes : await sizeAt(beginLsn, { store, view });
    return {
      id: store.ttid.timelineId,
      ancestorId: ancestor?.timelineId ?? null,
      ...{ beginLsn, cutoffLsn, headLsn, beginBytes, cutoffBytes },
    };
  } finally {
    release();
  }
}

/** Infinity: nobody can read it any more, so nobody need keep it. A branch point may be readable by the ancestor only. */
async function sizeAt(at: Lsn, { store, view }: Pick<ActiveTimeline, 'store' | 'view'>): Promise<number> {
  const { parent } = store;
  if (parent !== null && at >= parent.source.history.cutoff) {
    return new TimelineView(parent.source).logicalSize(at);
  }
  return at >= store.history.cutoff ? view.logicalSize(at) : Infinity;
}
