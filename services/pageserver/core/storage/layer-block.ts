/**
 * A block of a layer file: entries sorted by key, then LSN, then the order in which they were put.
 *
 * Entry:
 *   u8      bits 0-1 kind - 1; bits 2-3 form of the key; the rest 0
 *   key     form 0: same as the entry before; form 1: same fields 1-5, varint (block number - that of the entry before);
 *           form 2: all 18 bytes. The first entry of a block has form 2.
 *   varint  form 0: lsn - lsn of the entry before; else lsn - lsnStart of the layer
 *   varint  length of the value
 *   bytes   value
 *
 * A block is decoded whole when it is loaded: every number is checked there, and lookups are binary searches over plain arrays.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys, keyBlock, keyPrefixId, KEY_BYTES, readKey, writeKey } from '../key.js';
import type { ValueKind } from './store.js';
import { VarintReader, VARINT_BYTES_MAX, writeVarint } from './varint.js';

/** A block is closed once it has this many bytes: a few pages, so that one page costs one small read. */
export const BLOCK_TARGET_BYTES = 32 * 1024;

const SAME_KEY = 0;
const SAME_PREFIX = 1;
const WHOLE_KEY = 2;
/** Memory of one decoded entry beside its bytes. */
const ENTRY_OVERHEAD_BYTES = 25;

export interface RawBlock {
  readonly bytes: Uint8Array;
  readonly firstKey: Key;
  readonly firstLsn: Lsn;
  readonly lastKey: Key;
}

export class BlockBuilder {
  private readonly lsnStart: Lsn;
  private bytes = new Uint8Array(BLOCK_TARGET_BYTES * 2);
  private used = 0;
  private firstKey = 0 as Key;
  private firstLsn = 0 as Lsn;
  private lastKey = 0 as Key;
  private lastLsn = 0 as Lsn;

  constructor(lsnStart: Lsn) {
    this.lsnStart = lsnStart;
  }

  get isEmpty(): boolean {
    return this.used === 0;
  }

  /** Entries must come sorted. Returns true when the block should be taken. */
  add(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): boolean {
    this.reserve(1 + KEY_BYTES + 2 * VARINT_BYTES_MAX + value.length);
    const sameKey = this.used > 0 && key === this.lastKey;
    let at = this.used;
    if (sameKey) {
      this.bytes[at++] = (kind - 1) | (SAME_KEY << 2);
    } else if (this.used > 0 && keyPrefixId(key) === keyPrefixId(this.lastKey)) {
      this.bytes[at++] = (kind - 1) | (SAME_PREFIX << 2);
      at = writeVarint(keyBlock(key) - keyBlock(this.lastKey), this.bytes, at);
    } else {
      this.bytes[at++] = (kind - 1) | (WHOLE_KEY << 2);
      writeKey(key, this.bytes, at);
      at += KEY_BYTES;
    }
    at = writeVarint(lsn - (sameKey ? this.lastLsn : this.lsnStart), this.bytes, at);
    at = writeVarint(value.length, this.bytes, at);
    this.bytes.set(value, at);
    if (this.used === 0) {
      this.firstKey = key;
      this.firstLsn = lsn;
    }
    this.lastKey = key;
    this.lastLsn = lsn;
    this.used = at + value.length;
    return this.used >= BLOCK_TARGET_BYTES;
  }

  /** The finished block in its own buffer; the builder starts the next one. */
  take(): RawBlock {
    const block = {
      bytes: this.bytes.slice(0, this.used),
      firstKey: this.firstKey,
      firstLsn: this.firstLsn,
      lastKey: this.lastKey,
    };
    this.used = 0;
    return block;
  }

  private reserve(moreBytes: number): void {
    if (this.used + moreBytes <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.used + moreBytes));
    larger.set(this.bytes.subarray(0, this.used));
    this.bytes = larger;
  }
}

/** A checked block. Arrays have one element an entry. */
export class DecodedBlock {
  readonly count: number;
  /** Memory that it holds on to. */
  readonly sizeBytes: number;
  private readonly bytes: Uint8Array;
  private readonly keys: Float64Array;
  private readonly lsns: Float64Array;
  private readonly kinds: Uint8Array;
  private readonly offsets: Uint32Array;
  private readonly ends: Uint32Array;

  /** Use `decodeBlock`. Copies the first `count` elements of the columns. */
  constructor(bytes: Uint8Array, columns: Columns, count: number) {
    this.bytes = bytes;
    this.count = count;
    this.sizeBytes = bytes.length + count * ENTRY_OVERHEAD_BYTES;
    this.keys = columns.keys.slice(0, count);
    this.lsns = columns.lsns.slice(0, count);
    this.kinds = columns.kinds.slice(0, count);
    this.offsets = columns.offsets.slice(0, count);
    this.ends = columns.ends.slice(0, count);
  }

  key(i: number): Key {
    return this.keys[i]! as Key;
  }

  lsn(i: number): Lsn {
    return this.lsns[i]! as Lsn;
  }

  kind(i: number): ValueKind {
    return this.kinds[i]! as ValueKind;
  }

  /** Shares the block's memory: copy what must live long, or a small value keeps the whole block. */
  value(i: number): Uint8Array {
    return this.bytes.subarray(this.offsets[i], this.ends[i]);
  }

  /** Number of entries at or before (key, at). */
  upperBound(key: Key, at: Lsn): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = compareKeys(this.key(middle), key);
      if (order < 0 || (order === 0 && this.lsns[middle]! <= at)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Index of the first entry with key >= `key`. */
  lowerBound(key: Key): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(this.key(middle), key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

interface Columns {
  readonly keys: Float64Array;
  readonly lsns: Float64Array;
  readonly kinds: Uint8Array;
  readonly offsets: Uint32Array;
  readonly ends: Uint32Array;
}

function makeColumns(capacity: number): Columns {
  return {
    keys: new Float64Array(capacity),
    lsns: new Float64Array(capacity),
    kinds: new Uint8Array(capacity),
    offsets: new Uint32Array(capacity),
    ends: new Uint32Array(capacity),
  };
}

/** Where entries are collected before their number is known; reused, since decoding never pauses. */
let scratch = makeColumns(1024);

function growScratch(): void {
  const larger = makeColumns(scratch.keys.length * 2);
  larger.keys.set(scratch.keys);
  larger.lsns.set(scratch.lsns);
  larger.kinds.set(scratch.kinds);
  larger.offsets.set(scratch.offsets);
  larger.ends.set(scratch.ends);
  scratch = larger;
}

const NO_KEY = -1 as Key;

/** `last`: the key before, NO_KEY for the first entry. */
function nextKey(reader: VarintReader, bytes: Uint8Array, form: number, last: Key): Key {
  if (form === WHOLE_KEY) {
    const key = readKey(bytes, reader.offset);
    reader.offset += KEY_BYTES;
    if (last !== NO_KEY && compareKeys(last, key) >= 0) throw new StorageError('corrupt', 'keys out of order');
    return key;
  }
  if (last === NO_KEY) throw new StorageError('corrupt', 'the first entry has no whole key');
  if (form === SAME_KEY) return last;
  const delta = reader.next();
  if (form !== SAME_PREFIX || delta === 0 || keyBlock(last) + delta > 0xffff_ffff) {
    throw new StorageError('corrupt', `bad key step ${delta} in form ${form}`);
  }
  return (last + delta) as Key;
}

/** Checks and indexes a block's bytes, which the result keeps. Throws StorageError `corrupt` saying what is wrong. */
export function decodeBlock(bytes: Uint8Array, range: { lsnStart: Lsn; lsnEnd: Lsn }): DecodedBlock {
  const reader = new VarintReader(bytes);
  const { lsnStart, lsnEnd } = range;
  let count = 0;
  let key = NO_KEY;
  let lsn: Lsn = lsnStart;
  while (reader.offset < bytes.length) {
    const tag = reader.byte();
    if (tag > 0x0f) throw new StorageError('corrupt', `bad entry tag ${tag} at byte ${reader.offset - 1}`);
    const form = tag >>> 2;
    key = nextKey(reader, bytes, form, key);
    lsn = ((form === SAME_KEY ? lsn : lsnStart) + reader.next()) as Lsn;
    if (lsn >= lsnEnd) throw new StorageError('corrupt', `LSN ${formatLsn(lsn)} outside the layer`);
    const length = reader.next();
    const offset = reader.offset;
    if (offset + length > bytes.length) throw new StorageError('corrupt', `value of ${length} bytes is cut off`);
    reader.offset = offset + length;
    if (count === scratch.keys.length) growScratch();
    scratch.keys[count] = key;
    scratch.lsns[count] = lsn;
    scratch.kinds[count] = (tag & 3) + 1;
    scratch.offsets[count] = offset;
    scratch.ends[count] = offset + length;
    count++;
  }
  if (count === 0) throw new StorageError('corrupt', 'empty block');
  return new DecodedBlock(bytes, scratch, count);
}
