/**
 * What to compact: L0 layers, oldest first, once enough have come together. They are merged into layers that each hold a part of the
 * keys and all of their LSNs: a run of the layer map, of which a read touches one layer.
 */
import type { Lsn } from '#shared/core/lsn.js';
import type { LayerMap } from './layer-map.js';
import type { LayerSpan } from './layer-name.js';

export interface CompactionPlan<L extends LayerSpan> {
  /** Oldest first. */
  readonly inputs: readonly L[];
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

/**
 * Null when there is nothing to do. `usable` says whether a layer may be replaced (it is in the published index); the plan ends before
 * the first that may not, so that what remains is newer than all that is merged.
 */
export function planCompaction<L extends LayerSpan>(
  map: LayerMap<L>,
  limits: { compactionThreshold: number; compactionLayersMax: number },
  usable: (layer: L) => boolean,
): CompactionPlan<L> | null {
  const level0 = map.level0();
  const blocked = level0.findIndex((layer) => !usable(layer));
  const inputs = (blocked < 0 ? level0 : level0.slice(0, blocked)).slice(0, limits.compactionLayersMax);
  const first = inputs[0];
  const last = inputs.at(-1);
  if (first === undefined || last === undefined || inputs.length < limits.compactionThreshold) return null;
  return { inputs, lsnStart: first.lsnStart, lsnEnd: last.lsnEnd };
}
