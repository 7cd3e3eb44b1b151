/**
 * Which layers no allowed read can come to any more. Allowed are reads at every LSN from the cutoff on, and at the branch points below it
 * (of branches that read there through their own layers).
 */
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, lsn, lsnMin } from '#shared/core/lsn.js';
import { StorageError } from '#shared/core/errors.js';
import { isShadowed, sortedImages, wholeSpan } from './coverage.js';
import type { LayerSpan } from './layer-name.js';
import type { TimePoint } from './time-points.js';
import { lastPointUpTo } from './time-points.js';

export interface CutoffInputs {
  readonly lastRecordLsn: Lsn;
  /** History above is not in the object store: a cutoff there would outlive a crash that the history does not. */
  readonly remoteConsistentLsn: Lsn;
  /** The cutoff so far: it never goes back. */
  readonly minReadableLsn: Lsn;
  /** Of leases and of reads that take long; null when there are none. */
  readonly oldestHeldLsn: Lsn | null;
  readonly gcHorizonBytes: number;
  /** 0 = history is kept by size only. */
  readonly pitrIntervalS: number;
  readonly nowMs: number;
  readonly timePoints: readonly TimePoint[];
}

/**
 * The older of what the size horizon and the time interval allow, held back by leases. Without a commit as old as the interval nothing
 * is given up. A given `gcHorizonBytes` and interval both keep: neither can shorten what the other one keeps.
 */
export function planCutoff(inputs: CutoffInputs): Lsn {
  const { minReadableLsn, pitrIntervalS, oldestHeldLsn } = inputs;
  let cutoff = lsn(Math.max(0, inputs.lastRecordLsn - inputs.gcHorizonBytes));
  if (pitrIntervalS > 0) {
    const point = lastPointUpTo(inputs.timePoints, inputs.nowMs - pitrIntervalS * 1000);
    if (point === null) return minReadableLsn;
    cutoff = lsnMin(cutoff, point.lsn);
  }
  cutoff = lsnMin(cutoff, inputs.remoteConsistentLsn);
  if (oldestHeldLsn !== null) cutoff = lsnMin(cutoff, oldestHeldLsn);
  return cutoff > minReadableLsn ? cutoff : minReadableLsn;
}

/**
 * Layers that may go. A layer stays when
 *   - it may have versions above the cutoff, or
 *   - a read at the cutoff may come to it: image layers between it and the cutoff do not cover all of its keys, or
 *   - a read at a branch point below the cutoff may come to it, for the same reason.
 * What is shadowed at the cutoff is shadowed at every later LSN.
 */
export function planRemoval<L extends LayerSpan>(layers: readonly L[], cutoff: Lsn, branchPoints: Iterable<Lsn>): L[] {
  const images = sortedImages(layers);
  const points = [cutoff, ...[...new Set(branchPoints)].filter((point) => point < cutoff)];
  return layers.filter(
    (layer) =>
      layer.lsnEnd <= cutoff + 1 &&
      points.every((point) => point < layer.lsnStart || isShadowed(layer, wholeSpan(layer), point, images)),
  );
}

/** What is said to whoever asks for history that is gone. */
export function belowCutoff(at: Lsn, cutoff: Lsn): StorageError {
  return new StorageError('invalid', `requested LSN ${formatLsn(at)} is below the GC cutoff ${formatLsn(cutoff)}`);
}
