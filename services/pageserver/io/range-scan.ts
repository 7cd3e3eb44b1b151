/**
 * Newest version of every key of a range over one source after the other. Sources come in no order: the greater LSN wins, and a version
 * below an image layer that covers its key does not count (a key not in the image does not exist there).
 *
 * Costs blocks for keys and not for versions: where the history of a key fills blocks (the size of a relation that grew), only the one
 * with the wanted version and the one in which the next key begins are read.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsnMin, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { compareKeys, formatKey } from '../core/key.js';
import type { DecodedBlock } from '../core/storage/layer-block.js';
import { VALUE_IMAGE, VALUE_TOMBSTONE } from '../core/storage/store.js';
import type { ScanEntry, ValueKind } from '../core/storage/store.js';
import type { LayerCache } from './layer-cache.js';
import type { LayerFile } from './layer-file.js';
import type { Source, WaitAncestor } from './reader.js';

interface Newest {
  lsn: Lsn;
  kind: ValueKind;
  value: Uint8Array;
}

export class RangeScan {
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
          // The failure may be that the layer went away, and not that data is bad.
          if (layer.retired) return false;
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
    let n = index.firstBlockFrom(this.start);
    if (n >= index.blockCount) return;
    const load = async (number: number): Promise<DecodedBlock> =>
      this.cache.block(layer, index, number) ?? (await this.cache.loadBlock(layer, index, number));
    let block = await load(n);
    let i = block.lowerBound(this.start);
    for (;;) {
      if (i === block.count) {
        if (++n === index.blockCount || compareKeys(index.firstKey(n), this.end) >= 0) return;
        [block, i] = [await load(n), 0];
      }
      const key = block.key(i);
      if (compareKeys(key, this.end) >= 0) return;
      // The first version of a key: the others follow, in this block and maybe in those behind.
      const first = i;
      while (i < block.count && block.key(i) === key) i++;
      if (i < block.count || n + 1 === index.blockCount || index.firstKey(n + 1) !== key) {
        this.offerNewest(block, key, { first, at });
        continue;
      }
      if (block.lsn(first) <= at) this.offerNewest(await load(index.findBlock(key, at)), key, { first: 0, at });
      n = index.findBlock(key, MAX_LSN);
      block = await load(n);
      i = block.upperBound(key, MAX_LSN);
    }
  }

  /** The newest version of the key in the block at or below `at`, if there is one from `first` on. */
  private offerNewest(block: DecodedBlock, key: Key, { first, at }: { first: number; at: Lsn }): void {
    const i = block.upperBound(key, at) - 1;
    if (i >= first) this.offer(key, block.lsn(i), block.kind(i), block.value(i));
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
