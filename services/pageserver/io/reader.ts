/**
 * Drives key lookups and scans over a timeline: loads what they ask for, plans anew when a compaction took a layer away under them.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { formatKey } from '../core/key.js';
import { KeyLookup } from '../core/storage/key-lookup.js';
import type { LoadedBlocks, Need, PageFloor, ReadSource } from '../core/storage/key-lookup.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import type { LayerIndex } from '../core/storage/layer-format.js';
import type { ScanEntry } from '../core/storage/store.js';
import type { LayerCache } from './layer-cache.js';
import type { LayerFile } from './layer-file.js';
import { RangeScan } from './range-scan.js';

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
