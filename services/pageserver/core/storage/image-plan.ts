/**
 * Where image layers are due: key ranges with many delta layers above their last image. All are made at one LSN, the end of the newest
 * merged (not L0) delta layer, of which everything below is in delta layers that will not be merged again.
 *
 * A range is widened over older image layers that it would replace in part only: garbage collection removes whole files, so the rest of
 * such a file would keep all of it.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys } from '../key.js';
import type { KeySpan } from './coverage.js';
import { isL0, keyAfter } from './layer-name.js';
import type { LayerSpan } from './layer-name.js';

export interface ImagePlan {
  readonly lsn: Lsn;
  /** Sorted, disjoint, not touching. */
  readonly ranges: readonly KeySpan[];
}

export interface ImagePlanOptions<L> {
  readonly imageCreationThreshold: number;
  /** Keys of which no image could be made: alone they are not tried again. */
  readonly refused: ReadonlySet<Key>;
  /** Whether an image layer is small enough to be written again for the sake of a part of it. */
  canRewrite(image: L): boolean;
}

/** The key space cut at every end of a layer. */
export class Intervals<L extends LayerSpan> {
  readonly bounds: readonly Key[];
  private readonly indexOf: ReadonlyMap<Key, number>;

  constructor(layers: readonly L[]) {
    const bounds = new Set<Key>();
    for (const { keyStart, keyEnd } of layers) bounds.add(keyStart).add(keyEnd);
    this.bounds = [...bounds].sort(compareKeys);
    this.indexOf = new Map(this.bounds.map((key, i) => [key, i]));
  }

  *of(layer: L): Generator<number> {
    const end = this.indexOf.get(layer.keyEnd)!;
    for (let i = this.indexOf.get(layer.keyStart)!; i < end; i++) yield i;
  }
}

/** Null when none are due, or none can be made before more layers are merged. */
export function planImages<L extends LayerSpan>(layers: readonly L[], options: ImagePlanOptions<L>): ImagePlan | null {
  const deltas = layers.filter((layer) => layer.kind === 'delta' && !isL0(layer));
  const at = lsn(deltas.reduce((end, layer) => Math.max(end, layer.lsnEnd - 1), 0));
  const images = layers.filter((layer) => layer.kind === 'image');
  // Deltas below an image may have been removed: what is left does not make the state at `at`.
  if (images.some((image) => image.lsnStart > at)) return null;
  const intervals = new Intervals([...deltas, ...images]);
  const { bounds } = intervals;
  const imageLsns = new Float64Array(bounds.length).fill(-1);
  for (const image of images) {
    for (const i of intervals.of(image)) imageLsns[i] = Math.max(imageLsns[i]!, image.lsnStart);
  }
  const depths = new Uint32Array(bounds.length);
  for (const delta of deltas) {
    for (const i of intervals.of(delta)) depths[i]! += delta.lsnEnd > imageLsns[i]! + 1 ? 1 : 0;
  }
  const chosen = bounds.map((_, i) => {
    return depths[i]! >= options.imageCreationThreshold && !isRefusedAt(bounds, i, options.refused);
  });
  widen(chosen, images.filter(options.canRewrite), intervals, imageLsns, at);
  const ranges = rangesOf(chosen, bounds);
  return ranges.length === 0 ? null : { lsn: at, ranges };
}

/** Whether an interval is just one key of which no image could be made. */
export function isRefusedAt(bounds: readonly Key[], i: number, refused: ReadonlySet<Key>): boolean {
  return refused.has(bounds[i]!) && keyAfter(bounds[i]!) === bounds[i + 1];
}

/** Where an image layer is the newest: all of that, or nothing. Layers of one LSN are disjoint, so one pass is enough. */
export function widen<L extends LayerSpan>(
  chosen: boolean[],
  images: readonly L[],
  intervals: Intervals<L>,
  imageLsns: Float64Array,
  at: Lsn,
): void {
  for (const image of images) {
    if (image.lsnStart === at) continue;
    const own = [...intervals.of(image)].filter((i) => imageLsns[i] === image.lsnStart);
    if (own.some((i) => chosen[i])) for (const i of own) chosen[i] = true;
  }
}

export function rangesOf(chosen: readonly boolean[], bounds: readonly Key[]): KeySpan[] {
  const ranges: { start: Key; end: Key }[] = [];
  for (let i = 0; i + 1 < bounds.length; i++) {
    if (chosen[i] !== true) continue;
    const last = ranges.at(-1);
    if (last?.end === bounds[i]) last!.end = bounds[i + 1]!;
    else ranges.push({ start: bounds[i]!, end: bounds[i + 1]! });
  }
  return ranges;
}
