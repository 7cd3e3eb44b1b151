/**
 * Vectored reads: the look-ups of many keys at one LSN, driven together in rounds. In each round every unfinished look-up says what it
 * needs next; each index, block and ancestor is then loaded or waited for once, however many ask for it, and neighbouring blocks of a
 * layer with one read.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError, wrapError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { formatKey } from '../core/key.js';
import { KeyLookup } from '../core/storage/key-lookup.js';
import type { LoadedBlocks, Need, PageFloor } from '../core/storage/key-lookup.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import type { LayerIndex } from '../core/storage/layer-format.js';
import type { LayerCache } from './layer-cache.js';
import type { LayerFile } from './layer-file.js';
import { REPLANS_MAX } from './reader.js';
import type { Reader, Source } from './reader.js';

export interface ManyReads {
  readonly source: Source;
  readonly wanted: readonly { readonly key: Key; readonly floor: PageFloor | null }[];
  readonly at: Lsn;
  /** Nobody wants the answer any more: no further round begins. */
  readonly signal?: AbortSignal | undefined;
}

interface Unfinished {
  readonly place: number;
  lookup: KeyLookup<LayerFile>;
  need: Need<LayerFile> | null;
  replans: number;
}

/** What a round loaded, kept until the next one has: look-ups go on even when the cache is too small for all of it. */
class RoundLoads implements LoadedBlocks<LayerFile> {
  readonly cache: LayerCache;
  readonly indexes = new Map<LayerFile, LayerIndex>();
  readonly blocks = new Map<LayerFile, Map<number, DecodedBlock>>();

  constructor(cache: LayerCache) {
    this.cache = cache;
  }

  index(layer: LayerFile): LayerIndex | undefined {
    return this.indexes.get(layer) ?? this.cache.index(layer);
  }

  block(layer: LayerFile, index: LayerIndex, blockNumber: number): DecodedBlock | undefined {
    return this.blocks.get(layer)?.get(blockNumber) ?? this.cache.block(layer, index, blockNumber);
  }
}

/** A finished look-up or the failure of each wanted key, in order. Throws only when `signal` is aborted. */
export async function lookupMany(
  reader: Reader,
  reads: ManyReads,
): Promise<Array<KeyLookup<LayerFile> | StorageError>> {
  const { source, wanted, at, signal } = reads;
  const results: Array<KeyLookup<LayerFile> | StorageError> = [];
  const loads = new RoundLoads(reader.cache);
  const plan = (place: number) => new KeyLookup(wanted[place]!.key, at, source, wanted[place]!.floor);
  let active = wanted.map((_, place): Unfinished => ({ place, lookup: plan(place), need: null, replans: 0 }));
  for (;;) {
    active = active.filter((read) => {
      const outcome = step(read, loads);
      if (outcome !== null) results[read.place] = outcome;
      return outcome === null;
    });
    if (active.length === 0) return results;
    if (signal?.aborted === true) throw new StorageError('cancelled', 'nobody waits for the pages any more');
    const failures = await loadRound(reader, active, loads);
    active = active.filter((read) => {
      const failure = failures.get(subjectOf(read.need!));
      if (failure === undefined) return true;
      const isReplaced = read.need!.kind !== 'ancestor' && read.need!.layer.retired;
      if (isReplaced && ++read.replans < REPLANS_MAX) {
        read.lookup = plan(read.place);
        return true;
      }
      results[read.place] = isReplaced
        ? new StorageError('unavailable', `layers under ${formatKey(wanted[read.place]!.key)} keep being replaced`)
        : failure;
      return false;
    });
  }
}

/** Null: it needs something. */
function step(read: Unfinished, loads: RoundLoads): KeyLookup<LayerFile> | StorageError | null {
  try {
    read.need = read.lookup.step(loads);
    return read.need === null ? read.lookup : null;
  } catch (error) {
    return asStorageError(error);
  }
}

function asStorageError(error: unknown): StorageError {
  if (error instanceof AssertionFailure) throw error;
  return error instanceof StorageError ? error : wrapError('a page could not be looked up', error);
}

/** What failed when a need cannot be met: all needs of one layer, or of one ancestor, fail together. */
function subjectOf(need: Need<LayerFile>): LayerFile | Source {
  return need.kind === 'ancestor' ? need.source : need.layer;
}

async function loadRound(
  reader: Reader,
  active: readonly Unfinished[],
  loads: RoundLoads,
): Promise<Map<LayerFile | Source, StorageError>> {
  const bySubject = new Map<LayerFile | Source, Need<LayerFile>[]>();
  for (const { need } of active) {
    const subject = subjectOf(need!);
    const needs = bySubject.get(subject);
    if (needs === undefined) bySubject.set(subject, [need!]);
    else needs.push(need!);
  }
  loads.blocks.clear();
  const failures = new Map<LayerFile | Source, StorageError>();
  await Promise.all(
    [...bySubject].map(async ([subject, needs]) => {
      try {
        await meet(reader, needs, loads);
      } catch (error) {
        failures.set(subject, asStorageError(error));
      }
    }),
  );
  return failures;
}

/** `needs` are all of one subject. */
async function meet(reader: Reader, needs: readonly Need<LayerFile>[], loads: RoundLoads): Promise<void> {
  const first = needs[0]!;
  if (first.kind === 'ancestor') return reader.waitAncestor(first.source, first.lsn);
  const { layer } = first;
  const index = loads.index(layer) ?? (await loads.cache.loadIndex(layer));
  loads.indexes.set(layer, index);
  const numbers = new Set(needs.flatMap((need) => (need.kind === 'block' ? [need.blockNumber] : [])));
  if (numbers.size === 0) return;
  loads.blocks.set(
    layer,
    await loads.cache.loadBlocks(
      layer,
      index,
      [...numbers].sort((a, b) => a - b),
    ),
  );
}
