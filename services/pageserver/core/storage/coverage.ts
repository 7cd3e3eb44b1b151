/**
 * What image layers make superfluous. A layer is shadowed at an LSN when every read of its keys at that LSN ends at an image layer above
 * all of its versions: then such reads never come to it, and neither do reads at any later LSN.
 */
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys } from '../key.js';
import type { LayerSpan } from './layer-name.js';

export interface KeySpan {
  readonly start: Key;
  /** Exclusive. */
  readonly end: Key;
}

/** `sorted`: by keyStart. Whether those that `counts` says count cover the whole span together. */
export function isCovered<L extends LayerSpan>(
  span: KeySpan,
  sorted: readonly L[],
  counts: (layer: L) => boolean,
): boolean {
  let reached = span.start;
  for (const layer of sorted) {
    if (compareKeys(reached, span.end) >= 0) return true;
    if (compareKeys(layer.keyStart, reached) > 0) return false;
    if (compareKeys(layer.keyEnd, reached) > 0 && counts(layer)) reached = layer.keyEnd;
  }
  return compareKeys(reached, span.end) >= 0;
}

/** Image layers in the order that `isCovered` wants. */
export function sortedImages<L extends LayerSpan>(layers: readonly L[]): L[] {
  return layers.filter((layer) => layer.kind === 'image').sort((a, b) => compareKeys(a.keyStart, b.keyStart));
}

/**
 * Whether reads at `at` of the keys that `layer` has in `span` never come to the layer. `images`: from `sortedImages`. An image layer
 * is shadowed by later ones only.
 */
export function isShadowed(layer: LayerSpan, span: KeySpan, at: Lsn, images: readonly LayerSpan[]): boolean {
  const start = compareKeys(layer.keyStart, span.start) > 0 ? layer.keyStart : span.start;
  const end = compareKeys(layer.keyEnd, span.end) < 0 ? layer.keyEnd : span.end;
  // A delta's newest version may be as new as lsnEnd - 1: an image there includes it.
  const above = layer.kind === 'image' ? layer.lsnStart : layer.lsnEnd - 2;
  return isCovered({ start, end }, images, (image) => image.lsnStart > above && image.lsnStart <= at);
}

export function wholeSpan(layer: LayerSpan): KeySpan {
  return { start: layer.keyStart, end: layer.keyEnd };
}
