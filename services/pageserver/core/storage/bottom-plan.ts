/**
 * Compaction of the oldest history: below the cutoff only the cutoff itself and branch points are read. Two means: image layers at the
 * cutoff, where that lets enough old history go, and rewriting of delta layers without the versions that nobody can read (retained.ts).
 */
import type { Lsn } from '#shared/core/lsn.js';
import { isShadowed, sortedImages, wholeSpan } from './coverage.js';
import type { ImagePlan, ImagePlanOptions } from './image-plan.js';
import { Intervals, isRefusedAt, rangesOf, widen } from './image-plan.js';
import { isL0 } from './layer-name.js';
import type { LayerSpan } from './layer-name.js';

export interface SizedLayer extends LayerSpan {
  readonly metadata: { readonly sizeBytes: number };
}

export interface BottomOptions<L> extends Pick<ImagePlanOptions<L>, 'refused' | 'canRewrite'> {
  readonly cutoff: Lsn;
  /** Old history of fewer bytes is left alone; 0 = nothing is. */
  readonly bytesMin: number;
}

/** Merged deltas with versions at or below the cutoff that a read there may come to. */
function garbageLayers<L extends SizedLayer>(layers: readonly L[], cutoff: Lsn): L[] {
  const images = sortedImages(layers);
  return layers.filter(
    (layer) =>
      layer.kind === 'delta' &&
      !isL0(layer) &&
      layer.lsnStart <= cutoff &&
      !isShadowed({ ...layer, lsnEnd: Math.min(layer.lsnEnd, cutoff + 1) as Lsn }, wholeSpan(layer), cutoff, images),
  );
}

/** How much of a layer lies at or below the cutoff, taken as spread evenly over its LSNs. */
function bytesBelow(layer: SizedLayer, cutoff: Lsn): number {
  const below = Math.min(1, (cutoff + 1 - layer.lsnStart) / (layer.lsnEnd - layer.lsnStart));
  return layer.metadata.sizeBytes * below;
}

/** Image layers to make at the cutoff; null when old history is too little against what would be written: the images that are there now. */
export function planBottomImages<L extends SizedLayer>(
  layers: readonly L[],
  { cutoff, bytesMin, refused, canRewrite }: BottomOptions<L>,
): ImagePlan | null {
  const deltas = garbageLayers(layers, cutoff);
  const images = layers.filter((layer) => layer.kind === 'image' && layer.lsnStart <= cutoff);
  const garbageBytes = deltas.reduce((sum, layer) => sum + bytesBelow(layer, cutoff), 0);
  const imageBytes = images.reduce((sum, layer) => sum + layer.metadata.sizeBytes, 0);
  if (garbageBytes === 0 || (bytesMin > 0 && garbageBytes < Math.max(bytesMin, imageBytes))) return null;
  const intervals = new Intervals([...deltas, ...images]);
  const { bounds } = intervals;
  const imageLsns = new Float64Array(bounds.length).fill(-1);
  for (const image of images) {
    for (const i of intervals.of(image)) imageLsns[i] = Math.max(imageLsns[i]!, image.lsnStart);
  }
  const chosen: boolean[] = bounds.map(() => false);
  for (const delta of deltas) {
    for (const i of intervals.of(delta)) {
      if (Math.min(delta.lsnEnd - 1, cutoff) > imageLsns[i]! && !isRefusedAt(bounds, i, refused)) chosen[i] = true;
    }
  }
  widen(chosen, images.filter(canRewrite), intervals, imageLsns, cutoff);
  const ranges = rangesOf(chosen, bounds);
  return ranges.length === 0 ? null : { lsn: cutoff, ranges };
}

/** Merged delta layers in which versions may lie that no allowed read comes to. */
export function planTrims<L extends SizedLayer>(layers: readonly L[], cutoff: Lsn): L[] {
  return layers.filter((layer) => layer.kind === 'delta' && !isL0(layer) && layer.lsnStart < cutoff);
}

/** Branch points below the cutoff, then the cutoff. */
export function retainedPoints(cutoff: Lsn, branchPoints: Iterable<Lsn>): Lsn[] {
  const below = [...new Set(branchPoints)].filter((point) => point < cutoff).sort((a, b) => a - b);
  return [...below, cutoff];
}
