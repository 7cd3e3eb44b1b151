/**
 * Which versions of one key some allowed read can still come to: all above the cutoff, and at the cutoff and at each branch point below it
 * the chain from the last base on. What an image layer has, at its LSN and below, nobody needs.
 */
import type { Lsn } from '#shared/core/lsn.js';
import type { ValueKind } from './store.js';
import { VALUE_RECORD } from './store.js';

export interface RetainedAt {
  /** Branch points below the cutoff, then the cutoff: rising. */
  readonly points: readonly Lsn[];
  /** LSN of the newest image layer over the key at or below points[i]; -1 without one. */
  readonly floors: readonly number[];
}

/** `versions` of one key in one layer, oldest first. Sets keep[i] for those that must stay. */
export function markRetained(
  versions: readonly { readonly lsn: Lsn; readonly kind: ValueKind }[],
  { points, floors }: RetainedAt,
  keep: boolean[],
): void {
  const cutoff = points.at(-1)!;
  let count = 0;
  for (const { lsn } of versions) keep[count++] = lsn > cutoff;
  keep.length = count;
  for (let p = 0; p < points.length; p++) {
    const point = points[p]!;
    const floor = floors[p]!;
    let i = count - 1;
    while (i >= 0 && versions[i]!.lsn > point) i--;
    for (; i >= 0 && versions[i]!.lsn > floor; i--) {
      keep[i] = true;
      if (versions[i]!.kind !== VALUE_RECORD) break;
    }
  }
}
