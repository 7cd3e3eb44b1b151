/**
 * Turns sorted versions into the bytes of a layer file, front to back; the shell writes what comes out. Memory: one block, 42 bytes a
 * block and 8 bytes a key.
 */
import { crc32 } from 'node:zlib';
import { assert } from '#shared/core/assert.js';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys, formatKey } from '../key.js';
import { buildFilter, keyHash } from './key-filter.js';
import { BlockBuilder } from './layer-block.js';
import type { BlockPlace, LayerOwner } from './layer-format.js';
import { encodeFooter, encodeHeader, encodeIndex, packPart, placeOf } from './layer-format.js';
import { keyAfter } from './layer-name.js';
import type { LayerSpan } from './layer-name.js';
import type { ValueKind } from './store.js';

export class LayerEncoder {
  entryCount = 0;
  keyCount = 0;
  /** Length and CRC-32 of all bytes given out so far: of the file, once finished. */
  sizeBytes = 0;
  crc = 0;
  private readonly lsnStart: Lsn;
  private readonly lsnEnd: Lsn;
  private readonly builder: BlockBuilder;
  private readonly places: BlockPlace[] = [];
  private readonly hashes: number[] = [];
  private header: Uint8Array = new Uint8Array(0);
  private firstKey = 0 as Key;
  private lastKey = 0 as Key;
  private lastLsn = 0 as Lsn;

  constructor(range: { lsnStart: Lsn; lsnEnd: Lsn }) {
    this.lsnStart = range.lsnStart;
    this.lsnEnd = range.lsnEnd;
    this.builder = new BlockBuilder(range.lsnStart);
  }

  /** The file's first bytes. The header does not name keys: their end is known last. */
  begin(owner: LayerOwner, kind: LayerSpan['kind']): Uint8Array {
    const nowhere = { keyStart: 0 as Key, keyEnd: 0 as Key };
    this.header = encodeHeader(owner, { kind, ...nowhere, lsnStart: this.lsnStart, lsnEnd: this.lsnEnd });
    return this.given(this.header);
  }

  /** Sorted by key, LSN. Returns true when a block is full: call `endBlock`. */
  add(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): boolean {
    if (this.entryCount === 0 || key !== this.lastKey) {
      assert(this.entryCount === 0 || compareKeys(this.lastKey, key) < 0, () => `key ${formatKey(key)} not sorted`);
      if (this.entryCount === 0) this.firstKey = key;
      this.keyCount++;
      this.hashes.push(keyHash(key));
    } else {
      assert(this.lastLsn <= lsn, () => `LSN ${formatLsn(lsn)} of key ${formatKey(key)} not sorted`);
    }
    if (lsn < this.lsnStart || lsn >= this.lsnEnd) {
      throw new StorageError('internal', `version at ${formatLsn(lsn)} is outside of its layer`);
    }
    this.lastKey = key;
    this.lastLsn = lsn;
    this.entryCount++;
    return this.builder.add(key, lsn, kind, value);
  }

  get blockCount(): number {
    return this.places.length;
  }

  /** Returns the bytes to write. */
  endBlock(): Uint8Array {
    const block = this.builder.take();
    const part = packPart(block.bytes);
    this.places.push(placeOf(block, part));
    return this.given(part.stored);
  }

  /** Smallest range that holds all keys. */
  keyRange(): { keyStart: Key; keyEnd: Key } {
    return { keyStart: this.firstKey, keyEnd: keyAfter(this.lastKey) };
  }

  /** The rest: the last block, index, filter and footer. */
  finish(keys: { keyStart: Key; keyEnd: Key }): Uint8Array[] {
    const last = this.builder.isEmpty ? [] : [this.endBlock()];
    const indexOffset = this.sizeBytes;
    const index = packPart(encodeIndex(this.places));
    const filter = buildFilter(this.hashes);
    const footer = encodeFooter({
      header: this.header,
      ...keys,
      entryCount: this.entryCount,
      blockCount: this.blockCount,
      indexOffset,
      index,
      filter,
    });
    return [...last, this.given(index.stored), this.given(filter), this.given(footer)];
  }

  private given(bytes: Uint8Array): Uint8Array {
    this.sizeBytes += bytes.length;
    this.crc = crc32(bytes, this.crc);
    return bytes;
  }
}
