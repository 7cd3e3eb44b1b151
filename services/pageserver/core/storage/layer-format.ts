/**
 * The one immutable file format of delta and image layers. Little-endian but for keys.
 *
 *   header   72 bytes
 *     0   8  "NEONLYR1"
 *     8   2  format version, 1
 *     10  1  kind: 1 delta, 2 image
 *     11  1  Postgres major version
 *     12  4  0
 *     16 16  tenant id
 *     32 16  timeline id
 *     48  8  first LSN
 *     56  8  end LSN, exclusive
 *     64  4  0
 *     68  4  CRC-32 of bytes 0-67
 *   blocks   one after the other (layer-block.ts), each zstd level 1, or as it is when that is not smaller
 *   index    one entry of 38 bytes a block; the whole is zstd or as it is, like a block
 *     0  18  first key
 *     18  8  LSN of the first entry
 *     26  4  stored length; blocks follow each other without gaps
 *     30  4  raw length; equal to the stored length = not compressed
 *     34  4  CRC-32 of the stored bytes
 *   filter   key-filter.ts
 *   footer   104 bytes
 *     0  36  key range: first key, end key (exclusive)
 *     36  8  entries
 *     44  4  blocks
 *     48  8  offset of the index
 *     56  4  stored length of the index
 *     60  4  raw length of the index
 *     64  4  CRC-32 of the stored index
 *     68  4  length of the filter, which follows the index
 *     72  4  CRC-32 of the filter
 *     76 16  0
 *     92  4  CRC-32 of header and of footer bytes 0-91: binds the two ends together
 *     96  8  "NEONLYRE"
 *
 * Written front to back without seeking; read by one read of the tail (footer, filter, index) once and then one read a block. CRC-32 is
 * zlib's: the runtime has it in native code.
 */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys, KEY_BYTES, KEY_PREFIX_BYTES, readKey, writeKey } from '../key.js';
import type { RawBlock } from './layer-block.js';
import { filterMayContain } from './key-filter.js';
import type { LayerSpan } from './layer-name.js';

export const LAYER_HEADER_BYTES = 72;
export const LAYER_FOOTER_BYTES = 104;
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 1 };

const MAGIC_START = Buffer.from('NEONLYR1');
const MAGIC_END = Buffer.from('NEONLYRE');
const FORMAT_VERSION = 1;
const INDEX_ENTRY_BYTES = 38;
const FOOTER_CRC_OFFSET = 92;
const HALF = 0x1_0000_0000;
/** Guards allocations against absurd lengths that pass a CRC by chance. */
const PART_BYTES_MAX = 0x3fff_ffff;

function corrupt(what: string): StorageError {
  return new StorageError('corrupt', what);
}

function readU64(view: DataView, offset: number): number {
  const value = view.getUint32(offset + 4, true) * HALF + view.getUint32(offset, true);
  if (!Number.isSafeInteger(value)) throw corrupt(`number at byte ${offset} is out of range`);
  return value;
}

function writeU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / HALF), true);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function crcIs(bytes: Uint8Array, expected: number, what: string): void {
  const found = crc32(bytes);
  if (found !== expected) throw corrupt(`${what}: CRC is ${found.toString(16)}, should be ${expected.toString(16)}`);
}

/** Who a layer belongs to, as its header says. */
export interface LayerOwner {
  readonly ttid: TenantTimelineId;
  readonly pgMajor: number;
}

export function encodeHeader(owner: LayerOwner, span: LayerSpan): Uint8Array {
  const bytes = new Uint8Array(LAYER_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(MAGIC_START, 0);
  view.setUint16(8, FORMAT_VERSION, true);
  bytes[10] = span.kind === 'delta' ? 1 : 2;
  bytes[11] = owner.pgMajor;
  bytes.set(Buffer.from(owner.ttid.tenantId, 'hex'), 16);
  bytes.set(Buffer.from(owner.ttid.timelineId, 'hex'), 32);
  writeU64(view, 48, span.lsnStart);
  writeU64(view, 56, span.lsnEnd);
  view.setUint32(68, crc32(bytes.subarray(0, 68)), true);
  return bytes;
}

/** Where a block lies. */
export interface BlockPlace {
  readonly firstKey: Key;
  readonly firstLsn: Lsn;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly crc: number;
}

export interface StoredPart {
  readonly stored: Uint8Array;
  readonly rawLength: number;
}

/**
 * Keeps the smaller of the two forms, in memory that holds nothing else. Not in the thread pool: for blocks of 32 KiB waking a thread and
 * moving the memory over cost more than compressing.
 */
export function packPart(raw: Uint8Array): StoredPart {
  // In output chunks of the usual 16 KiB: one that takes whatever comes is faster still, and left holes of 20 MiB after gigabytes.
  const compressed = zstdCompressSync(raw, { params: COMPRESSION });
  return { stored: compressed.length < raw.length ? Uint8Array.from(compressed) : raw, rawLength: raw.length };
}

export function placeOf(block: RawBlock, part: StoredPart): BlockPlace {
  return {
    firstKey: block.firstKey,
    firstLsn: block.firstLsn,
    storedLength: part.stored.length,
    rawLength: part.rawLength,
    crc: crc32(part.stored),
  };
}

export function encodeIndex(places: readonly BlockPlace[]): Uint8Array {
  const bytes = new Uint8Array(places.length * INDEX_ENTRY_BYTES);
  const view = viewOf(bytes);
  places.forEach((place, i) => {
    const at = i * INDEX_ENTRY_BYTES;
    writeKey(place.firstKey, bytes, at);
    writeU64(view, at + 18, place.firstLsn);
    view.setUint32(at + 26, place.storedLength, true);
    view.setUint32(at + 30, place.rawLength, true);
    view.setUint32(at + 34, place.crc, true);
  });
  return bytes;
}

export interface FooterParts {
  readonly header: Uint8Array;
  readonly keyStart: Key;
  readonly keyEnd: Key;
  readonly entryCount: number;
  readonly blockCount: number;
  readonly indexOffset: number;
  readonly index: StoredPart;
  readonly filter: Uint8Array;
}

export function encodeFooter(parts: FooterParts): Uint8Array {
  const bytes = new Uint8Array(LAYER_FOOTER_BYTES);
  const view = viewOf(bytes);
  writeKey(parts.keyStart, bytes, 0);
  writeKey(parts.keyEnd, bytes, KEY_BYTES);
  writeU64(view, 36, parts.entryCount);
  view.setUint32(44, parts.blockCount, true);
  writeU64(view, 48, parts.indexOffset);
  view.setUint32(56, parts.index.stored.length, true);
  view.setUint32(60, parts.index.rawLength, true);
  view.setUint32(64, crc32(parts.index.stored), true);
  view.setUint32(68, parts.filter.length, true);
  view.setUint32(72, crc32(parts.filter), true);
  const crc = crc32(bytes.subarray(0, FOOTER_CRC_OFFSET), crc32(parts.header));
  view.setUint32(FOOTER_CRC_OFFSET, crc, true);
  bytes.set(MAGIC_END, 96);
  return bytes;
}

export interface LayerSummary {
  readonly entryCount: number;
  readonly blockCount: number;
  readonly indexOffset: number;
  readonly indexStoredLength: number;
  readonly indexRawLength: number;
  readonly indexCrc: number;
  readonly filterLength: number;
  readonly filterCrc: number;
}

/** Reads header and footer of a file that should be this layer of this owner. Throws StorageError `corrupt`. */
export function decodeEnds(
  header: Uint8Array,
  footer: Uint8Array,
  expected: { owner: LayerOwner; span: LayerSpan; fileBytes: number },
): LayerSummary {
  const wanted = encodeHeader(expected.owner, expected.span);
  if (Buffer.compare(header, wanted) !== 0) throw corrupt('the header is damaged or that of another layer');
  if (footer.length !== LAYER_FOOTER_BYTES || Buffer.compare(footer.subarray(96), MAGIC_END) !== 0) {
    throw corrupt('the footer is cut off');
  }
  const view = viewOf(footer);
  const crc = crc32(footer.subarray(0, FOOTER_CRC_OFFSET), crc32(header));
  if (view.getUint32(FOOTER_CRC_OFFSET, true) !== crc) throw corrupt('the footer fails its CRC');
  if (readKey(footer, 0) !== expected.span.keyStart || readKey(footer, KEY_BYTES) !== expected.span.keyEnd) {
    throw corrupt('the key range is that of another layer');
  }
  const summary = {
    entryCount: readU64(view, 36),
    blockCount: view.getUint32(44, true),
    indexOffset: readU64(view, 48),
    indexStoredLength: view.getUint32(56, true),
    indexRawLength: view.getUint32(60, true),
    indexCrc: view.getUint32(64, true),
    filterLength: view.getUint32(68, true),
    filterCrc: view.getUint32(72, true),
  };
  const end = summary.indexOffset + summary.indexStoredLength + summary.filterLength + LAYER_FOOTER_BYTES;
  if (end !== expected.fileBytes || summary.indexRawLength !== summary.blockCount * INDEX_ENTRY_BYTES) {
    throw corrupt(`the parts make ${end} bytes, the file has ${expected.fileBytes}`);
  }
  return summary;
}

/** Checks the CRC of stored bytes and unpacks them. Result may share `stored`. Throws StorageError `corrupt`. */
export function unpackPart(stored: Uint8Array, rawLength: number, crc: number, what: string): Uint8Array {
  crcIs(stored, crc, what);
  if (rawLength === stored.length) return bare(stored);
  if (rawLength > PART_BYTES_MAX) throw corrupt(`${what}: ${rawLength} bytes is too long`);
  let raw: Uint8Array;
  try {
    // One output chunk of the right size: the default (16 KiB) makes several and joins them.
    const chunkSize = Math.max(1024, Math.ceil(rawLength / 1024) * 1024);
    raw = zstdDecompressSync(stored, { chunkSize, maxOutputLength: Math.max(rawLength, 1) });
  } catch (cause) {
    throw new StorageError('corrupt', `${what}: cannot be decompressed`, { cause });
  }
  if (raw.length !== rawLength) throw corrupt(`${what}: has ${raw.length} bytes, should have ${rawLength}`);
  return bare(raw);
}

/** The same memory without Buffer's own `slice`, which would share memory where a copy is meant. */
function bare(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Most entries continue the relation of the one before: compared in place, which is far cheaper than interning again. */
function samePrefix(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < KEY_PREFIX_BYTES; i++) {
    if (bytes[at + i] !== bytes[at - INDEX_ENTRY_BYTES + i]) return false;
  }
  return true;
}

function blockStep(view: DataView, at: number): number {
  return view.getUint32(at + KEY_PREFIX_BYTES) - view.getUint32(at - INDEX_ENTRY_BYTES + KEY_PREFIX_BYTES);
}

/** The block index in memory, with the filter. */
export class LayerIndex {
  readonly blockCount: number;
  readonly sizeBytes: number;
  readonly filter: Uint8Array;
  private readonly keys: Float64Array;
  private readonly lsns: Float64Array;
  private readonly offsets: Float64Array;
  private readonly lengths: Uint32Array;
  private readonly crcs: Uint32Array;

  /** `tail` = stored index and filter, as they lie in the file. Throws StorageError `corrupt`. */
  constructor(tail: Uint8Array, summary: LayerSummary, span: LayerSpan) {
    const stored = tail.subarray(0, summary.indexStoredLength);
    const bytes = unpackPart(stored, summary.indexRawLength, summary.indexCrc, 'block index');
    this.filter = bare(tail).slice(summary.indexStoredLength);
    crcIs(this.filter, summary.filterCrc, 'key filter');
    const count = summary.blockCount;
    this.blockCount = count;
    this.keys = new Float64Array(count);
    this.lsns = new Float64Array(count);
    this.offsets = new Float64Array(count);
    this.lengths = new Uint32Array(count * 2);
    this.crcs = new Uint32Array(count);
    this.sizeBytes = count * 36 + this.filter.length + 256;
    const view = viewOf(bytes);
    let offset = LAYER_HEADER_BYTES;
    for (let i = 0; i < count; i++) {
      const at = i * INDEX_ENTRY_BYTES;
      this.keys[i] = i > 0 && samePrefix(bytes, at) ? this.keys[i - 1]! + blockStep(view, at) : readKey(bytes, at);
      this.lsns[i] = readU64(view, at + 18);
      this.offsets[i] = offset;
      this.lengths[i * 2] = view.getUint32(at + 26, true);
      this.lengths[i * 2 + 1] = view.getUint32(at + 30, true);
      this.crcs[i] = view.getUint32(at + 34, true);
      offset += this.lengths[i * 2]!;
      this.checkEntry(i, span);
    }
    // An image layer may say that none of its keys exist.
    const isEmpty = count === 0 && span.kind === 'delta';
    if (isEmpty || offset !== summary.indexOffset) throw corrupt('the blocks do not reach to the index');
  }

  private checkEntry(i: number, span: LayerSpan): void {
    const key = this.firstKey(i);
    const order = i === 0 ? -1 : compareKeys(this.firstKey(i - 1), key);
    const sorted = order < 0 || (order === 0 && this.lsns[i - 1]! <= this.lsns[i]!);
    if (!sorted || compareKeys(key, span.keyStart) < 0 || compareKeys(key, span.keyEnd) >= 0) {
      throw corrupt(`block index entry ${i} is out of order`);
    }
  }

  firstKey(i: number): Key {
    return this.keys[i]! as Key;
  }

  place(i: number): { offset: number; storedLength: number; rawLength: number; crc: number } {
    return {
      offset: this.offsets[i]!,
      storedLength: this.lengths[i * 2]!,
      rawLength: this.lengths[i * 2 + 1]!,
      crc: this.crcs[i]!,
    };
  }

  mayContain(key: Key): boolean {
    return filterMayContain(this.filter, key);
  }

  /** The last block whose first entry is at or before (key, at); -1 when there is none. */
  findBlock(key: Key, at: Lsn): number {
    let low = 0;
    let high = this.blockCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = compareKeys(this.firstKey(middle), key);
      if (order < 0 || (order === 0 && this.lsns[middle]! <= at)) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The first block that may hold an entry with key >= `key`. */
  firstBlockFrom(key: Key): number {
    let low = 0;
    let high = this.blockCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(this.firstKey(middle), key) < 0) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}
