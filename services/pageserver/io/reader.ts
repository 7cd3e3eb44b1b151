/**
 * Drives key lookups and scans over a timeline: loads what they ask for, plans anew when a compaction took a layer away under them.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { compareKeys, formatKey } from '../core/key.js';
import { KeyLookup } from '../core/storage/key-lookup.js';
import type { LoadedBlocks, Need, PageFloor, ReadSource } from '../core/storage/key-lookup.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import type { LayerIndex } from '../core/storage/layer-format.js';
import { VALUE_IMAGE, VALUE_TOMBSTONE } from '../core/storage/store.js';
import type { ScanEntry, ValueKind } from '../core/storage/store.js';
import type { LayerCache } from './layer-cache.js';
import type { LayerFile } from './layer-file.js';

export type Source = ReadSource<LayerFile>;
/** Waits until a source has an LSN (an ancestor that is still catching up after a restart). */
export type WaitAncestor = (source: Source, lsn: Lsn) => Promise<void>;

/** A layer can be replaced only so often while one read is under way. */
export const REPLANS_MAX = 10;

/** What one lookup loaded last: it goes on even when the cache is too small to keep it. */
class OneLoad implements LoadedBlocks<LayerFile> {
  private readonly cache: LayerCache;
  private lastIndex: { layer: LayerFile; index: LayerIndex } | null = null;
  private lastBlock: { layer: LayerFile; blockNumber: number; block: DecodedBlock } | null = null;

  constructor(cache: LayerCache) {
    this.cache = cache;
  }

  index(layer: LayerFile): LayerIndex | undefined {
    return this.lastIndex?.layer === layer ? this.lastIndex.index : this.cache.index(layer);
  }

  block(layer: LayerFile, index: LayerIndex, blockNumber: number): DecodedBlock | undefined {
    const last = this.lastBlock;
    if (last !== null && last.layer === layer && last.blockNumber === blockNumber) return last.block;
    return this.cache.block(layer, index, blockNumber);
  }

  async load(need: Exclude<Need<LayerFile>, { kind: 'ancestor' }>): Promise<void> {
    const { layer } = need;
    if (need.kind === 'index') {
      this.lastIndex = { layer, index: await this.cache.loadIndex(layer) };
      return;
    }
    const block = await this.cache.loadBlock(layer, need.index, need.blockNumber);
    this.lastBlock = { layer, blockNumber: need.blockNumber, block };
  }
}

/** True when the failure is that a layer went away, not that data is bad. */
function replaced(layer: LayerFile): boolean {
  return layer.retired;
}

export class Reader {
  readonly cache: LayerCache;
  readonly waitAncestor: WaitAncestor;

  constructor(cache: LayerCache, waitAncestor: WaitAncestor) {
    this.cache = cache;
    this.waitAncestor = waitAncestor;
  }

  /** A finished lookup, or undefined when something must be loaded first. */
  tryLookup(source: Source, key: Key, at: Lsn, floor: PageFloor | null): KeyLookup<LayerFile> | undefined {
    const lookup = new KeyLookup(key, at, source, floor);
    return lookup.step(this.cache) === null ? lookup : undefined;
  }

  async lookup(source: Source, key: Key, at: Lsn, floor: PageFloor | null): Promise<KeyLookup<LayerFile>> {
    for (let attempt = 0; attempt < REPLANS_MAX; attempt++) {
      const lookup = new KeyLookup(key, at, source, floor);
      if (await this.drive(lookup)) return lookup;
    }
    throw new StorageError('unavailable', `layers under ${formatKey(key)} keep being replaced`);
  }

  /** False: plan anew. */
  private async drive(lookup: KeyLookup<LayerFile>): Promise<boolean> {
    const loaded = new OneLoad(this.cache);
    for (;;) {
      const need = lookup.step(loaded);
      if (need === null) return true;
      if (need.kind === 'ancestor') {
        await this.waitAncestor(need.source, need.lsn);
        continue;
      }
      try {
        await loaded.load(need);
      } catch (error) {
        if (replaced(need.layer)) return false;
        throw error;
      }
    }
  }

  async scan(source: Source, start: Key, end: Key, at: Lsn): Promise<ScanEntry[]> {
    for (let attempt = 0; attempt < REPLANS_MAX; attempt++) {
      const scan = new RangeScan(this.cache, start, end);
      if (await scan.run(source, at, this.waitAncestor)) return scan.result();
    }
    throw new StorageError('unavailable', `layers under ${formatKey(start)} keep being replaced`);
  }
}

interface Newest {
  lsn: Lsn;
  kind: ValueKind;
  value: Uint8Array;
}

/**
 * Newest version of every key of a range over one source after the other. Sources come in no order: the greater LSN wins, and a version
 * below an image layer that covers its key does not count (a key not in the image does not exist there).
 */
class RangeScan {
  private readonly cache: LayerCache;
  private readonly start: Key;
  private readonly end: Key;
  private readonly newest = new Map<Key, Newest>();
  private readonly images: LayerFile[] = [];

  constructor(cache: LayerCache, start: Key, end: Key) {
    this.cache = cache;
    this.start = start;
    this.end = end;
  }

  /** False: a layer went away, begin anew. */
  async run(first: Source, firstAt: Lsn, waitAncestor: WaitAncestor): Promise<boolean> {
    let source = first;
    let at = firstAt;
    for (;;) {
      for (const layer of source.memoryLayers) {
        layer.scan(this.start, this.end, at, (key, position) => {
          this.offer(key, layer.lsnAt(position), layer.kindAt(position), layer.valueAt(position));
        });
      }
      for (const layer of source.layers.overlapping(this.start, this.end, at)) {
        if (layer.kind === 'image') this.images.push(layer);
        try {
          await this.scanLayer(layer, at);
        } catch (error) {
          if (replaced(layer)) return false;
          throw error;
        }
      }
      const parent = source.parent;
      if (parent === null) return true;
      at = lsnMin(at, parent.lsn);
      if (parent.source.lastRecordLsn < at) await waitAncestor(parent.source, at);
      source = parent.source;
    }
  }

  private offer(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    const known = this.newest.get(key);
    if (known === undefined) this.newest.set(key, { lsn, kind, value: value.slice() });
    else if (known.lsn < lsn) Object.assign(known, { lsn, kind, value: value.slice() });
  }

  private async scanLayer(layer: LayerFile, at: Lsn): Promise<void> {
    const index = this.cache.index(layer) ?? (await this.cache.loadIndex(layer));
    for (let n = index.firstBlockFrom(this.start); n < index.blockCount; n++) {
      if (compareKeys(index.firstKey(n), this.end) >= 0) return;
      const block = this.cache.block(layer, index, n) ?? (await this.cache.loadBlock(layer, index, n));
      for (let i = block.lowerBound(this.start); i < block.count; i++) {
        const key = block.key(i);
        if (compareKeys(key, this.end) >= 0) return;
        // Of two versions at one LSN the later entry is the newer one.
        if (block.lsn(i) <= at) this.offerLater(key, block.lsn(i), block.kind(i), block.value(i));
      }
    }
  }

  private offerLater(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    const known = this.newest.get(key);
    if (known !== undefined && known.lsn === lsn) Object.assign(known, { kind, value: value.slice() });
    else this.offer(key, lsn, kind, value);
  }

  private hiddenByImage(key: Key, lsn: Lsn): boolean {
    return this.images.some(
      (image) => lsn < image.lsnStart && compareKeys(image.keyStart, key) <= 0 && compareKeys(key, image.keyEnd) < 0,
    );
  }

  result(): ScanEntry[] {
    const entries: ScanEntry[] = [];
    for (const [key, newest] of this.newest) {
      if (newest.kind === VALUE_TOMBSTONE || this.hiddenByImage(key, newest.lsn)) continue;
      if (newest.kind !== VALUE_IMAGE) {
        throw new StorageError('corrupt', `${formatKey(key)} at ${formatLsn(newest.lsn)} is not a plain value`);
      }
      entries.push({ key, value: newest.value });
    }
    return entries.sort((a, b) => compareKeys(a.key, b.key));
  }
}
