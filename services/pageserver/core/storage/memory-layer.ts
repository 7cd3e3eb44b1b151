/**
 * The in-memory layer: versions of the newest WAL, appended to 1 MiB chunks outside the JavaScript heap, with one map entry a key.
 *
 * A version in a chunk, 8-aligned:
 *   0   8  lsn, float64
 *   8   4  position of the version before it of the same key, -1 = none
 *   12  4  kind in the top 3 bits, value length in the other 29
 *   16  n  value
 * A position is chunk * 1 MiB + offset. A value too large for one chunk gets a larger buffer that stands in for several chunks in a row.
 *
 * Versions of a key are linked newest first, in the order in which they were put: this is how reads go, and two versions at one LSN (one
 * record may change a page twice) keep their order. LSNs never decrease from put to put.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, lsn as brandLsn, MAX_LSN } from '#shared/core/lsn.js';
import { StorageError } from '#shared/core/errors.js';
import type { Key } from '../key.js';
import { compareKeys, keyPrefixId, makeKey, prefixBytes } from '../key.js';
import type { ValueKind } from './store.js';

const CHUNK_BYTES = 1 << 20;
const CHUNK_SHIFT = 20;
const CHUNK_MASK = CHUNK_BYTES - 1;
const HEADER_BYTES = 16;
const LENGTH_BITS = 29;
const LENGTH_MASK = (1 << LENGTH_BITS) - 1;
/** Positions stay below 2^31: small integers for the engine. */
const CHUNKS_MAX = 2048;
/** What one map entry costs, for the byte count. */
const KEY_OVERHEAD_BYTES = 32;

interface Chunk {
  readonly bytes: Uint8Array;
  readonly numbers: Float64Array;
  readonly words: Int32Array;
}

function newChunk(sizeBytes: number): Chunk {
  const buffer = new ArrayBuffer(sizeBytes);
  return { bytes: new Uint8Array(buffer), numbers: new Float64Array(buffer), words: new Int32Array(buffer) };
}

const NO_CHUNK: Chunk = newChunk(0);

export const NO_VERSION = -1;

export class MemoryLayer {
  /** First LSN that it may hold; versions have lsn >= lsnStart. */
  readonly lsnStart: Lsn;
  /** First LSN that it may not hold; MAX_LSN until frozen. */
  lsnEnd: Lsn = MAX_LSN;
  /** What was the last record when it was frozen: its lsnEnd - 1, and where that record starts. */
  prevRecordLsn: Lsn = brandLsn(0);
  /** Newest LSN put; 0 when empty. */
  lsnLast: Lsn = brandLsn(0);
  versionCount = 0;
  keyCount = 0;
  /** Memory in use, chunk slack and key overhead included. */
  sizeBytes = 0;

  /** Heads by block (as int32) by prefix id. */
  private readonly prefixes = new Map<number, Map<number, number>>();
  private readonly chunks: Chunk[] = [];
  private chunk: Chunk = NO_CHUNK;
  /** Position of byte 0 of `chunk`, and how much of it is used. */
  private chunkBase = 0;
  private chunkUsed = 0;
  private chunkSize = 0;
  private lastPrefix = -1;
  private lastHeads: Map<number, number> = new Map();

  constructor(lsnStart: Lsn) {
    this.lsnStart = lsnStart;
  }

  get frozen(): boolean {
    return this.lsnEnd !== MAX_LSN;
  }

  /** Copies the value in. StorageError `internal` when LSNs go back or the layer is frozen, `exhausted` at 2 GiB. */
  put(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    if (lsn < this.lsnLast || lsn < this.lsnStart || this.frozen) this.refuse(lsn);
    const prefixId = keyPrefixId(key);
    let heads = this.lastHeads;
    if (prefixId !== this.lastPrefix) heads = this.selectPrefix(prefixId);
    const block = key | 0;
    const length = value.length;
    const entryBytes = (HEADER_BYTES + length + 7) & ~7;
    if (this.chunkUsed + entryBytes > this.chunkSize) this.grow(entryBytes);
    const offset = this.chunkUsed;
    this.chunkUsed = offset + entryBytes;
    const chunk = this.chunk;
    const before = heads.get(block);
    chunk.numbers[offset >>> 3] = lsn;
    const word = offset >>> 2;
    chunk.words[word + 3] = (kind << LENGTH_BITS) | length;
    if (before === undefined) {
      chunk.words[word + 2] = NO_VERSION;
      this.keyCount++;
      this.sizeBytes += KEY_OVERHEAD_BYTES;
    } else {
      chunk.words[word + 2] = before;
    }
    if (length > 0) chunk.bytes.set(value, offset + HEADER_BYTES);
    heads.set(block, this.chunkBase + offset);
    this.lsnLast = lsn;
    this.versionCount++;
  }

  private refuse(lsn: Lsn): never {
    const why = this.frozen ? 'frozen' : `at ${formatLsn(this.lsnLast > this.lsnStart ? this.lsnLast : this.lsnStart)}`;
    throw new StorageError('internal', `version put at ${formatLsn(lsn)} into an in-memory layer that is ${why}`);
  }

  private selectPrefix(prefixId: number): Map<number, number> {
    let heads = this.prefixes.get(prefixId);
    if (heads === undefined) {
      heads = new Map();
      this.prefixes.set(prefixId, heads);
    }
    this.lastPrefix = prefixId;
    this.lastHeads = heads;
    return heads;
  }

  private grow(entryBytes: number): void {
    if (entryBytes > LENGTH_MASK) throw new StorageError('exhausted', `a value of ${entryBytes} bytes is too large`);
    const slots = Math.ceil(entryBytes / CHUNK_BYTES);
    const first = this.chunks.length;
    if (first + slots > CHUNKS_MAX) throw new StorageError('exhausted', 'an in-memory layer grew to 2 GiB');
    const chunk = newChunk(slots * CHUNK_BYTES);
    this.chunks.push(chunk);
    for (let i = 1; i < slots; i++) this.chunks.push(NO_CHUNK);
    this.chunk = chunk;
    this.chunkBase = first * CHUNK_BYTES;
    this.chunkUsed = 0;
    // A large buffer takes one entry only: offsets inside it stay below 1 MiB.
    this.chunkSize = slots === 1 ? CHUNK_BYTES : entryBytes;
    this.sizeBytes += slots * CHUNK_BYTES;
  }

  freeze(lsnEnd: Lsn, prevRecordLsn: Lsn): void {
    if (this.lsnLast >= lsnEnd) {
      throw new StorageError('internal', `layer with versions up to ${formatLsn(this.lsnLast)} frozen below that`);
    }
    this.lsnEnd = lsnEnd;
    this.prevRecordLsn = prevRecordLsn;
  }

  /** Drops all versions above `lsn` (an unfinished batch). Their bytes stay until the layer goes. */
  discardAbove(lsn: Lsn): void {
    for (const heads of this.prefixes.values()) {
      for (const [block, head] of heads) {
        let at = head;
        while (at !== NO_VERSION && this.lsnAt(at) > lsn) {
          at = this.before(at);
          this.versionCount--;
        }
        if (at === head) continue;
        if (at !== NO_VERSION) heads.set(block, at);
        else {
          heads.delete(block);
          this.keyCount--;
          this.sizeBytes -= KEY_OVERHEAD_BYTES;
        }
      }
    }
    if (this.lsnLast > lsn) this.lsnLast = lsn;
  }

  /** Position of the newest version of a key with lsn <= at; NO_VERSION when there is none. */
  find(key: Key, at: Lsn): number {
    const heads = this.prefixes.get(keyPrefixId(key));
    if (heads === undefined) return NO_VERSION;
    let position = heads.get(key | 0) ?? NO_VERSION;
    while (position !== NO_VERSION && this.lsnAt(position) > at) position = this.before(position);
    return position;
  }

  before(position: number): number {
    return this.chunkAt(position).words[((position & CHUNK_MASK) >>> 2) + 2]!;
  }

  lsnAt(position: number): Lsn {
    return this.chunkAt(position).numbers[(position & CHUNK_MASK) >>> 3] as Lsn;
  }

  kindAt(position: number): ValueKind {
    return (this.chunkAt(position).words[((position & CHUNK_MASK) >>> 2) + 3]! >>> LENGTH_BITS) as ValueKind;
  }

  /** Shares the layer's memory, which never changes once written. */
  valueAt(position: number): Uint8Array {
    const chunk = this.chunkAt(position);
    const offset = position & CHUNK_MASK;
    const start = offset + HEADER_BYTES;
    return chunk.bytes.subarray(start, start + (chunk.words[(offset >>> 2) + 3]! & LENGTH_MASK));
  }

  private chunkAt(position: number): Chunk {
    return this.chunks[position >>> CHUNK_SHIFT]!;
  }

  /** The newest version <= at of every key in [start, end), tombstones included, in no order. */
  scan(start: Key, end: Key, at: Lsn, visit: (key: Key, position: number) => void): void {
    const low = prefixBytes(keyPrefixId(start));
    const high = prefixBytes(keyPrefixId(end));
    for (const [prefixId, heads] of this.prefixes) {
      const bytes = prefixBytes(prefixId);
      if (Buffer.compare(bytes, low) < 0 || Buffer.compare(bytes, high) > 0) continue;
      for (const block of heads.keys()) {
        const key = makeKey(prefixId, block >>> 0);
        if (compareKeys(key, start) < 0 || compareKeys(key, end) >= 0) continue;
        const position = this.find(key, at);
        if (position !== NO_VERSION) visit(key, position);
      }
    }
  }

  /** All keys, sorted. */
  sortedKeys(): Key[] {
    const ids = [...this.prefixes.keys()].sort((a, b) => Buffer.compare(prefixBytes(a), prefixBytes(b)));
    const keys: Key[] = [];
    for (const id of ids) {
      const blocks = Uint32Array.from(this.prefixes.get(id)!.keys()).sort();
      for (const block of blocks) keys.push(makeKey(id, block));
    }
    return keys;
  }

  /** Positions of a key's versions, oldest first, into `out` (cleared before). */
  history(key: Key, out: number[]): void {
    out.length = 0;
    for (let at = this.find(key, MAX_LSN); at !== NO_VERSION; at = this.before(at)) out.push(at);
    out.reverse();
  }
}
