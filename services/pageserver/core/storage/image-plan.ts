/**
 * Where image layers are due: key ranges with many delta layers above their last image. All are made at one LSN, the end of the newest
 * merged (not L0) delta layer, of which everything below is in delta layers that will not be merged again.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys } from '../key.js';
import type { KeySpan } from './coverage.js';
import { keyAfter, type LayerSpan } from './layer-name.js';
import { isL0 } from './layer-name.js';

export interface ImagePlan {
  readonly lsn: Lsn;
  /** Sorted, disjoint, not touching. */
  readonly ranges: readonly KeySpan[];
}

/** Null when none are due. `refused`: keys of which no image could be made; alone they are not tried again. */
export function planImages(
  layers: readonly LayerSpan[],
  imageCreationThreshold: number,
  refused: ReadonlySet<Key>,
): ImagePlan | null {
  const deltas = layers.filter((layer) => layer.kind === 'delta' && !isL0(layer));
  const at = lsn(deltas.reduce((end, layer) => Math.max(end, layer.lsnEnd - 1), 0));
  const images = layers.filter((layer) => layer.kind === 'image' && layer.lsnStart <= at);
  const bounds = sortedBounds([...deltas, ...images]);
  const indexOf = new Map(bounds.map((key, i) => [key, i]));
  const each = (layer: LayerSpan, visit: (interval: number) => void): void => {
    const end = indexOf.get(layer.keyEnd)!;
    for (let i = indexOf.get(layer.keyStart)!; i < end; i++) visit(i);
  };
  const imageLsns = new Float64Array(bounds.length).fill(-1);
  for (const image of images) each(image, (i) => (imageLsns[i] = Math.max(imageLsns[i]!, image.lsnStart)));
  const depths = new Uint32Array(bounds.length);
  for (const delta of deltas) each(delta, (i) => (depths[i]! += delta.lsnEnd > imageLsns[i]! + 1 ? 1 : 0));
  const ranges: { start: Key; end: Key }[] = [];
  for (let i = 0; i + 1 < bounds.length; i++) {
    const [start, end] = [bounds[i]!, bounds[i + 1]!];
    if (depths[i]! < imageCreationThreshold || (refused.has(start) && keyAfter(start) === end)) continue;
    const last = ranges.at(-1);
    if (last?.end === start) last.end = end;
    else ranges.push({ start, end });
  }
  return ranges.length === 0 ? null : { lsn: at, ranges };
}

function sortedBounds(layers: readonly LayerSpan[]): Key[] {
  const bounds = new Set<Key>();
  for (const { keyStart, keyEnd } of layers) bounds.add(keyStart).add(keyEnd);
  return [...bounds].sort(compareKeys);
}
