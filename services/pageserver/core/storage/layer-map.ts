/**
 * Which layers may hold versions of a key: immutable; a change makes a new map, so that a reader that paused goes on with the one it
 * began with.
 *
 * Delta layers with the same LSN range and disjoint key ranges form a run (an L0 layer is a run of one; a compaction writes a run). Runs
 * are ordered newest first; where two overlap in LSNs they must not overlap in keys, so that for one key the deltas follow each other in
 * LSN order. Image layers form runs by their LSN.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys } from '../key.js';
import { isCovered, isShadowed, sortedImages } from './coverage.js';
import type { LayerSpan } from './layer-name.js';
import { isL0, layerFileName } from './layer-name.js';

interface Run<L extends LayerSpan> {
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  /** Sorted by key; disjoint. */
  readonly layers: readonly L[];
}

/** Layers to read for one key, deltas newest first and then the image, if there is one. */
export interface LayerPlan<L extends LayerSpan> {
  readonly deltas: readonly L[];
  readonly image: L | null;
}

function keysOverlap(a: LayerSpan, b: LayerSpan): boolean {
  return compareKeys(a.keyStart, b.keyEnd) < 0 && compareKeys(b.keyStart, a.keyEnd) < 0;
}

function overlapError(a: LayerSpan, b: LayerSpan): StorageError {
  return new StorageError('corrupt', `layers ${layerFileName(a, 0)} and ${layerFileName(b, 0)} overlap`);
}

/** Groups layers into runs, newest first. */
function makeRuns<L extends LayerSpan>(layers: readonly L[]): Run<L>[] {
  const sorted = [...layers].sort(
    (a, b) => b.lsnEnd - a.lsnEnd || b.lsnStart - a.lsnStart || compareKeys(a.keyStart, b.keyStart),
  );
  const runs: { lsnStart: Lsn; lsnEnd: Lsn; layers: L[] }[] = [];
  for (const layer of sorted) {
    const run = runs.at(-1);
    const before = run?.layers.at(-1);
    if (run === undefined || before === undefined || run.lsnEnd !== layer.lsnEnd || run.lsnStart !== layer.lsnStart) {
      runs.push({ lsnStart: layer.lsnStart, lsnEnd: layer.lsnEnd, layers: [layer] });
      continue;
    }
    if (keysOverlap(before, layer)) throw overlapError(before, layer);
    run.layers.push(layer);
  }
  return runs;
}

function checkOrder<L extends LayerSpan>(runs: readonly Run<L>[]): void {
  for (let i = 0; i < runs.length; i++) {
    for (let j = i + 1; j < runs.length && runs[j]!.lsnEnd > runs[i]!.lsnStart; j++) {
      for (const a of runs[i]!.layers) {
        for (const b of runs[j]!.layers) if (keysOverlap(a, b)) throw overlapError(a, b);
      }
    }
  }
}

function layerOf<L extends LayerSpan>(run: Run<L>, key: Key): L | null {
  let low = 0;
  let high = run.layers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareKeys(run.layers[middle]!.keyStart, key) <= 0) low = middle + 1;
    else high = middle;
  }
  const layer = run.layers[low - 1];
  return layer !== undefined && compareKeys(key, layer.keyEnd) < 0 ? layer : null;
}

export class LayerMap<L extends LayerSpan> {
  readonly layers: readonly L[];
  /** End of the newest layer; 0 without layers. No version at or above it is in any of them. */
  readonly lsnEnd: Lsn;
  readonly level0Count: number;
  private readonly deltas: readonly Run<L>[];
  private readonly images: readonly Run<L>[];

  /** StorageError `corrupt` when layers overlap in both ranges. */
  constructor(layers: readonly L[]) {
    this.layers = layers;
    this.deltas = makeRuns(layers.filter((layer) => layer.kind === 'delta'));
    this.images = makeRuns(layers.filter((layer) => layer.kind === 'image'));
    checkOrder(this.deltas);
    this.level0Count = layers.reduce((count, layer) => count + (isL0(layer) ? 1 : 0), 0);
    this.lsnEnd = lsn(layers.reduce((end, layer) => Math.max(end, layer.lsnEnd), 0));
  }

  with(change: { add?: readonly L[]; remove?: readonly L[] }): LayerMap<L> {
    const gone = new Set(change.remove);
    return new LayerMap([...this.layers.filter((layer) => !gone.has(layer)), ...(change.add ?? [])]);
  }

  /** Layers that may hold versions of the key in (above, at]. An image at or below `above` is of no use and left out. */
  plan(key: Key, at: Lsn, above: Lsn): LayerPlan<L> {
    if (this.lsnEnd <= above + 1) return NOTHING as LayerPlan<L>;
    let image: L | null = null;
    for (const run of this.images) {
      if (run.lsnStart > at) continue;
      if (run.lsnStart <= above) break;
      image = layerOf(run, key);
      if (image !== null) break;
    }
    const floor = image === null ? above : image.lsnStart;
    const deltas: L[] = [];
    for (const run of this.deltas) {
      if (run.lsnStart > at) continue;
      if (run.lsnEnd <= floor + 1) continue;
      const layer = layerOf(run, key);
      if (layer !== null) deltas.push(layer);
    }
    return { deltas, image };
  }

  /** All layers that a read at `at` of keys in [start, end) may come to. */
  overlapping(start: Key, end: Key, at: Lsn): L[] {
    const found = this.layers.filter(
      (layer) => layer.lsnStart <= at && compareKeys(layer.keyStart, end) < 0 && compareKeys(start, layer.keyEnd) < 0,
    );
    const images = sortedImages(found);
    return found.filter((layer) => !isShadowed(layer, { start, end }, at, images));
  }

  /** Whether image layers at or below `at` hold all of [start, end): then no read there comes to the ancestor. */
  imagesCover(start: Key, end: Key, at: Lsn): boolean {
    return isCovered({ start, end }, sortedImages(this.layers), (image) => image.lsnStart <= at);
  }

  /** L0 layers, oldest first. */
  level0(): L[] {
    return this.layers.filter(isL0).sort((a, b) => a.lsnStart - b.lsnStart);
  }
}

const NOTHING: LayerPlan<LayerSpan> = { deltas: [], image: null };
