/**
 * Which history of a timeline must stay readable, and the removal of what need not (core/storage/gc-plan.ts decides).
 *
 * Order: the cutoff is raised in memory, so that no read, lease or branch below it begins; an index that has the cutoff and lacks the
 * layers is published; readers cease to see the layers; then files and objects are deleted. What a crash leaves behind is in no index and
 * is swept by the next generation. A read that began above the old cutoff and ends below the new one fails, since it may have missed
 * layers: the store checks at its end.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, lsnMax, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { belowCutoff, planCutoff, planRemoval } from '../core/storage/gc-plan.js';
import { Leases } from '../core/storage/leases.js';
import { layerPoints, mergePoints, pointsFrom } from '../core/storage/time-points.js';
import type { TimePoint } from '../core/storage/time-points.js';
import type { MemoryLayer } from '../core/storage/memory-layer.js';
import type { CompactionTarget, Compactor } from './compaction.js';
import { removeLayers, withLayers } from './publish-layers.js';

export interface GcTarget extends CompactionTarget {
  readonly lastRecordLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
}

/** Where commits are noted. */
export interface CommitSource {
  readonly publishedTimePoints: readonly TimePoint[];
  readonly memoryLayers: readonly MemoryLayer[];
}

export interface GcResult {
  /** Reads below are refused from now on. */
  readonly cutoff: Lsn;
  readonly layersRemoved: number;
  readonly bytesRemoved: number;
}

export interface GcOptions {
  /** In place of the tenant's setting. */
  readonly gcHorizonBytes?: number | undefined;
  readonly pitrIntervalS?: number | undefined;
}

export class TimelineHistory {
  removedCount = 0;
  readonly leases = new Leases();
  private ownCutoff: Lsn;
  private readonly parent: { readonly history: TimelineHistory; readonly lsn: Lsn } | null;
  /** By id of the branch. */
  private readonly branchPoints = new Map<string, Lsn>();

  constructor(cutoff: Lsn, parent: { history: TimelineHistory; lsn: Lsn } | null) {
    this.ownCutoff = cutoff;
    this.parent = parent;
  }

  /** Reads below are refused. A branch cannot be read where its ancestor cannot, but always from its branch point on. */
  get cutoff(): Lsn {
    const { parent, ownCutoff } = this;
    return parent === null ? ownCutoff : lsnMax(ownCutoff, lsnMin(parent.history.cutoff, parent.lsn));
  }

  /** Of a new root timeline: where its history begins. */
  begin(cutoff: Lsn): void {
    this.ownCutoff = cutoff;
  }

  /** Throws StorageError `invalid` naming the cutoff. */
  check(at: Lsn): void {
    if (at < this.ownCutoff || (this.parent !== null && at < this.cutoff)) throw belowCutoff(at, this.cutoff);
  }

  /** What a branch needs stays until `removeBranch`. Below the cutoff only what a load finds in the object store. */
  addBranch(timelineId: string, at: Lsn): void {
    this.branchPoints.set(timelineId, at);
  }

  /** Only once the branch can never be read again. */
  removeBranch(timelineId: string): void {
    this.branchPoints.delete(timelineId);
  }

  /** Keeps `at` readable until the function returned is called. Throws StorageError `invalid` when it is not any more. */
  hold(at: Lsn): () => void {
    this.check(at);
    const own = this.leases.hold(at);
    // Below the branch point it is the ancestor who must keep it.
    const above = this.parent !== null && at < this.parent.lsn ? this.parent.history.hold(at) : null;
    return () => {
      own();
      above?.();
    };
  }

  /** Keeps `at` readable for a time; again: for longer. Returns the end in Unix ms. Throws StorageError `invalid`. */
  lease(at: Lsn, durationMs: number, nowMs: number): number {
    this.check(at);
    if (this.parent !== null && at < this.parent.lsn) this.parent.history.lease(at, durationMs, nowMs);
    return this.leases.grant(at, durationMs, nowMs);
  }

  /** Commits of this timeline and, below the branch point, of its ancestors. */
  timePoints(source: CommitSource, inherited: readonly TimePoint[]): TimePoint[] {
    const branchLsn = this.parent?.lsn ?? 0;
    let points = inherited.filter((point) => point.lsn <= branchLsn);
    points = mergePoints(points, source.publishedTimePoints);
    for (const layer of source.memoryLayers.toReversed()) points = mergePoints(points, layerPoints(layer));
    return points;
  }

  /** Raises the cutoff as far as the settings allow and removes the layers that only lower reads need. */
  async collect(
    target: GcTarget,
    compactor: Compactor,
    inputs: { options: GcOptions; points: () => readonly TimePoint[]; nowMs: number },
  ): Promise<GcResult> {
    const { options, points, nowMs } = inputs;
    return compactor.exclusively(async (signal) => {
      if (signal.aborted) throw new StorageError('cancelled', 'the timeline is stopping');
      const settings = target.settings.current;
      const cutoff = planCutoff({
        lastRecordLsn: target.lastRecordLsn,
        remoteConsistentLsn: target.remoteConsistentLsn,
        minReadableLsn: this.cutoff,
        oldestHeldLsn: this.leases.oldest(nowMs),
        gcHorizonBytes: options.gcHorizonBytes ?? settings.gcHorizonBytes,
        pitrIntervalS: options.pitrIntervalS ?? settings.pitrIntervalS,
        nowMs,
        timePoints: points(),
      });
      if (this.ownCutoff < cutoff) this.ownCutoff = cutoff;
      return this.remove(target, lsn(cutoff), signal);
    });
  }

  /** Removes what nobody comes to at the present cutoff. To be called within `compactor.exclusively`. */
  removeUnread(target: CompactionTarget, signal: AbortSignal): Promise<GcResult> {
    return this.remove(target, this.cutoff, signal);
  }

  branchLsns(): Iterable<Lsn> {
    return this.branchPoints.values();
  }

  private async remove(target: CompactionTarget, cutoff: Lsn, signal: AbortSignal): Promise<GcResult> {
    const { env, publisher } = target;
    const { published } = publisher;
    const usable = target.layers().layers.filter((layer) => published.layers.has(layer.name));
    const removed = planRemoval(usable, cutoff, this.branchPoints.values());
    if (removed.length > 0 || cutoff > published.minReadableLsn) {
      await publisher.publish(
        (index) => ({
          ...withLayers(index, removed),
          minReadableLsn: lsnMax(index.minReadableLsn, cutoff),
          timePoints: pointsFrom(index.timePoints, cutoff),
        }),
        signal,
      );
      target.replaceLayers(removed, []);
      await removeLayers(env, removed);
    }
    const bytesRemoved = removed.reduce((sum, layer) => sum + layer.metadata.sizeBytes, 0);
    this.removedCount += removed.length;
    env.log.info({ cutoff: formatLsn(cutoff), layers: removed.length, bytesRemoved }, 'collected garbage');
    return { cutoff, layersRemoved: removed.length, bytesRemoved };
  }
}
