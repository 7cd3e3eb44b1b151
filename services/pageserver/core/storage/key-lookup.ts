/**
 * The read plan of one key at one LSN, as a machine without waiting: `step` goes as far as what is in memory allows and says what it
 * needs next; the shell brings that and steps again.
 *
 * Order: in-memory layers (open, then frozen), delta layers newest first, the image layer below them, then the ancestor at the branch
 * LSN. It stops at the first image, init or tombstone. An image layer over the key is final: a key that is not in it does not exist at
 * its LSN. A `floor` (a page already made) stands for all versions up to `floor.upTo`.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, lsnMin } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import type { DecodedBlock } from './layer-block.js';
import type { LayerIndex } from './layer-format.js';
import type { LayerMap, LayerPlan } from './layer-map.js';
import type { LayerSpan } from './layer-name.js';
import type { MemoryLayer } from './memory-layer.js';
import { NO_VERSION } from './memory-layer.js';
import type { ValueKind } from './store.js';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_TOMBSTONE } from './store.js';

/** What a timeline shows to readers. The fields are replaced, never changed in place. */
export interface ReadSource<L extends LayerSpan> {
  /** Newest first. */
  readonly memoryLayers: readonly MemoryLayer[];
  readonly layers: LayerMap<L>;
  readonly lastRecordLsn: Lsn;
  readonly parent: { readonly source: ReadSource<L>; readonly lsn: Lsn } | null;
}

/** What is at hand of layer files; undefined = must be loaded. */
export interface LoadedBlocks<L extends LayerSpan> {
  index(layer: L): LayerIndex | undefined;
  block(layer: L, index: LayerIndex, blockNumber: number): DecodedBlock | undefined;
}

export type Need<L extends LayerSpan> =
  | { readonly kind: 'index'; readonly layer: L }
  | { readonly kind: 'block'; readonly layer: L; readonly index: LayerIndex; readonly blockNumber: number }
  /** The ancestor has not yet come (back) to the branch LSN. */
  | { readonly kind: 'ancestor'; readonly source: ReadSource<L>; readonly lsn: Lsn };

export interface PageFloor {
  readonly lsn: Lsn;
  readonly upTo: Lsn;
  readonly page: Uint8Array;
}

export interface FoundRecord {
  readonly endLsn: Lsn;
  readonly value: Uint8Array;
}

const NOT_BEGUN = -1;

export class KeyLookup<L extends LayerSpan> {
  /** Records to apply, newest first. */
  readonly records: FoundRecord[] = [];
  /** What they apply to: an image, or null for nothing. */
  base: Uint8Array | null = null;
  /** LSN of the newest version, 0 when there is none. */
  newestLsn: Lsn = lsn(0);
  /** The newest version is a tombstone, or there is none. */
  absent = true;

  private readonly key: Key;
  private readonly floor: PageFloor | null;
  private readonly above: Lsn;
  private source: ReadSource<L>;
  private at: Lsn;
  private plan: LayerPlan<L> | null = null;
  private nextLayer = 0;
  private blockNumber = NOT_BEGUN;
  private done = false;

  constructor(key: Key, at: Lsn, source: ReadSource<L>, floor: PageFloor | null = null) {
    this.key = key;
    this.at = at;
    this.source = source;
    this.floor = floor;
    this.above = floor === null ? lsn(-1) : floor.upTo;
  }

  /** Null when finished. Throws what the loaded layers throw. */
  step(loaded: LoadedBlocks<L>): Need<L> | null {
    while (!this.done) {
      const need = this.advance(loaded);
      if (need !== null) return need;
    }
    return null;
  }

  private advance(loaded: LoadedBlocks<L>): Need<L> | null {
    if (this.plan === null) {
      if (this.searchMemory()) return null;
      this.plan = this.source.layers.plan(this.key, this.at, this.above);
      this.nextLayer = 0;
      this.blockNumber = NOT_BEGUN;
    }
    const { deltas, image } = this.plan;
    const layer = deltas[this.nextLayer] ?? (this.nextLayer === deltas.length ? image : null);
    if (layer !== null) {
      const above = layer === image ? lsn(layer.lsnStart - 1) : image === null ? this.above : image.lsnStart;
      const need = this.searchLayer(layer, above, loaded);
      if (need !== null) return need;
      this.nextLayer++;
      this.blockNumber = NOT_BEGUN;
      if (layer === image) this.done = true;
      return null;
    }
    return this.leaveSource();
  }

  /** Goes to the ancestor, or ends at the floor or at nothing. */
  private leaveSource(): Need<L> | null {
    const parent = this.source.parent;
    if (parent === null || parent.lsn <= this.above) {
      if (this.floor !== null) this.finish(this.floor.lsn, this.floor.page);
      this.done = true;
      return null;
    }
    const at = lsnMin(this.at, parent.lsn);
    if (parent.source.lastRecordLsn < at) return { kind: 'ancestor', source: parent.source, lsn: at };
    this.at = at;
    this.source = parent.source;
    this.plan = null;
    return null;
  }

  private finish(versionLsn: Lsn, base: Uint8Array | null): void {
    if (this.newestLsn === 0) this.newestLsn = versionLsn;
    if (base !== null) this.absent = false;
    this.base = base;
    this.done = true;
  }

  /** Returns true when nothing older is needed. */
  private visit(versionLsn: Lsn, kind: ValueKind, value: Uint8Array): boolean {
    if (kind === VALUE_IMAGE) {
      this.finish(versionLsn, value);
      return true;
    }
    if (kind === VALUE_TOMBSTONE) {
      this.finish(versionLsn, null);
      return true;
    }
    if (this.newestLsn === 0) this.newestLsn = versionLsn;
    this.absent = false;
    this.records.push({ endLsn: versionLsn, value });
    this.done = kind !== VALUE_RECORD;
    return this.done;
  }

  private searchMemory(): boolean {
    for (const layer of this.source.memoryLayers) {
      for (let p = layer.find(this.key, this.at); p !== NO_VERSION; p = layer.before(p)) {
        const versionLsn = layer.lsnAt(p);
        if (versionLsn <= this.above) break;
        if (this.visit(versionLsn, layer.kindAt(p), layer.valueAt(p))) return true;
      }
    }
    return false;
  }

  /** Visits the versions in (above, at]. Continues where it left off when called again with the block that it asked for. */
  private searchLayer(layer: L, above: Lsn, loaded: LoadedBlocks<L>): Need<L> | null {
    const index = loaded.index(layer);
    if (index === undefined) return { kind: 'index', layer };
    if (this.blockNumber === NOT_BEGUN) {
      if (!index.mayContain(this.key)) return null;
      this.blockNumber = index.findBlock(this.key, this.at);
    }
    while (this.blockNumber >= 0) {
      const block = loaded.block(layer, index, this.blockNumber);
      if (block === undefined) return { kind: 'block', layer, index, blockNumber: this.blockNumber };
      let i = block.upperBound(this.key, this.at) - 1;
      for (; i >= 0 && block.key(i) === this.key; i--) {
        if (block.lsn(i) <= above) return null;
        if (this.visit(block.lsn(i), block.kind(i), block.value(i))) return null;
      }
      // Older versions lie in the block before only when this one begins in the middle of the key's history.
      if (i >= 0 || index.firstKey(this.blockNumber) !== this.key) return null;
      this.blockNumber--;
    }
    // So that an older layer's search begins anew and not at "no block".
    return null;
  }
}
