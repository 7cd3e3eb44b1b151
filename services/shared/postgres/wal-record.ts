/**
 * One decoded WAL record, as a cursor that the decoder refills: plain fields and typed arrays, no object per record or block.
 *
 *   record body, behind the 24-byte record header (wal-layout.ts); nothing is aligned
 *   { block reference }*  [253 u16 origin]  [252 u32 top-level xid]  [255 u8 length | 254 u32 length of main data]
 *   then the payloads in the same order: per block its image, its data; last the main data
 *
 *   block reference
 *   u8 id (0..32, rising)   u8 fork (low 4 bits) + BKPBLOCK_* (high 4)   u16 data length
 *   with BKPBLOCK_HAS_IMAGE: u16 image length, u16 hole offset, u8 BKPIMAGE_*; compressed with hole: u16 hole length
 *   without BKPBLOCK_SAME_REL: u32 tablespace, u32 database, u32 relation
 *   u32 block number
 */
import { StorageError } from '../core/errors.js';
import { formatLsn, INVALID_LSN, type Lsn } from '../core/lsn.js';
import { RECORD_HEADER_BYTES } from './wal-layout.js';

export { blockImage } from './block-image.js';

export const BLCKSZ = 8192;
export const BLOCK_ID_MAX = 32;

export const BKPBLOCK_FORK_MASK = 0x0f;
export const BKPBLOCK_HAS_IMAGE = 0x10;
export const BKPBLOCK_HAS_DATA = 0x20;
export const BKPBLOCK_WILL_INIT = 0x40;
export const BKPBLOCK_SAME_REL = 0x80;

const BKPIMAGE_HAS_HOLE = 0x01;
const BKPIMAGE_APPLY = 0x02;
const BKPIMAGE_COMPRESSION_BITS = 0x1c;

export const IMAGE_PLAIN = 0;
export const IMAGE_PGLZ = 1;
export const IMAGE_LZ4 = 2;
export const IMAGE_ZSTD = 3;

/** xl_info: the low bits belong to the WAL machinery, the high ones to the resource manager. */
export const XLR_RMGR_INFO_MASK = 0xf0;
export const XLR_SPECIAL_REL_UPDATE = 0x01;
export const XLR_CHECK_CONSISTENCY = 0x02;

const ID_DATA_SHORT = 255;
const ID_DATA_LONG = 254;
const ID_ORIGIN = 253;
const ID_TOPLEVEL_XID = 252;
const FORK_MAX = 3;
const SLOTS = BLOCK_ID_MAX + 1;

const NO_BYTES = new Uint8Array(0);

/**
 * `bytes` is the buffer that the record lies in, contiguous from `offset` for `totalLength` bytes; it belongs to the decoder and
 * holds other bytes before and after. Every offset below counts from the start of `bytes`. All of it is valid until the decoder's
 * next next() or feed(): copy what must live longer. Block fields of ids with blockPresent = 0 are stale.
 */
export class WalRecord {
  /** Of the record header, i.e. behind a page header that precedes it. */
  startLsn: Lsn = INVALID_LSN;
  /** Where the next record may begin: rounded up to 8; the page start itself at a page end; the segment end after XLOG_SWITCH. */
  endLsn: Lsn = INVALID_LSN;
  totalLength = 0;
  xid = 0;
  prevLsn: Lsn = INVALID_LSN;
  info = 0;
  rmid = 0;
  originId = 0;
  toplevelXid = 0;

  bytes: Uint8Array = NO_BYTES;
  view: DataView = new DataView(NO_BYTES.buffer);
  /** Of the record header in `bytes`. */
  offset = 0;

  mainDataOffset = 0;
  mainDataLength = 0;
  /** Highest block id in use; -1 without blocks. */
  maxBlockId = -1;
  readonly blockPresent = new Uint8Array(SLOTS);
  readonly blockFlags = new Uint8Array(SLOTS);
  readonly blockFork = new Uint8Array(SLOTS);
  readonly blockSpc = new Uint32Array(SLOTS);
  readonly blockDb = new Uint32Array(SLOTS);
  readonly blockRel = new Uint32Array(SLOTS);
  readonly blockNumber = new Uint32Array(SLOTS);
  readonly blockDataOffset = new Uint32Array(SLOTS);
  readonly blockDataLength = new Uint32Array(SLOTS);
  readonly blockHasImage = new Uint8Array(SLOTS);
  /** 1: redo puts the image in place; 0: it is there only for wal_consistency_checking. */
  readonly blockApplyImage = new Uint8Array(SLOTS);
  readonly imageOffset = new Uint32Array(SLOTS);
  /** As stored, i.e. compressed and without hole. */
  readonly imageLength = new Uint32Array(SLOTS);
  readonly imageHoleOffset = new Uint32Array(SLOTS);
  readonly imageHoleLength = new Uint32Array(SLOTS);
  /** IMAGE_PLAIN, IMAGE_PGLZ, IMAGE_LZ4 or IMAGE_ZSTD. */
  readonly imageCompression = new Uint8Array(SLOTS);
}

function corrupt(record: WalRecord, what: string): StorageError {
  return new StorageError('corrupt', `WAL record at ${formatLsn(record.startLsn)}: ${what}`);
}

/** Fills the block, origin, top-level xid and main-data fields from bytes. Throws StorageError `corrupt`. */
export function decodeRecordBlocks(record: WalRecord): void {
  const { bytes, view } = record;
  const end = record.offset + record.totalLength;
  let at = record.offset + RECORD_HEADER_BYTES;
  let payload = 0;
  let mainLength = 0;
  let relationBlock = -1;
  for (let id = 0; id <= record.maxBlockId; id++) record.blockPresent[id] = 0;
  record.maxBlockId = -1;
  record.originId = 0;
  record.toplevelXid = 0;

  while (end - at > payload) {
    const id = bytes[at]!;
    if (id <= BLOCK_ID_MAX) {
      at = decodeBlockReference(record, at, end, relationBlock);
      relationBlock = id;
      payload += record.imageLength[id]! + record.blockDataLength[id]!;
      continue;
    }
    const size = id === ID_DATA_SHORT ? 2 : id === ID_ORIGIN ? 3 : 5;
    if (end - at < size) throw corrupt(record, 'cut short inside a header');
    if (id === ID_DATA_SHORT) mainLength = bytes[at + 1]!;
    else if (id === ID_DATA_LONG) mainLength = view.getUint32(at + 1, true);
    else if (id === ID_ORIGIN) record.originId = view.getUint16(at + 1, true);
    else if (id === ID_TOPLEVEL_XID) record.toplevelXid = view.getUint32(at + 1, true);
    else throw corrupt(record, `block id ${id} does not exist`);
    at += size;
    // The main data's header is the last one.
    if (id >= ID_DATA_LONG) break;
  }
  if (end - at !== payload + mainLength) {
    throw corrupt(record, `its headers announce ${payload + mainLength} payload bytes, it holds ${end - at}`);
  }

  for (let id = 0; id <= record.maxBlockId; id++) {
    if (record.blockPresent[id] === 0) continue;
    record.imageOffset[id] = at;
    at += record.imageLength[id]!;
    record.blockDataOffset[id] = at;
    at += record.blockDataLength[id]!;
  }
  record.mainDataOffset = at;
  record.mainDataLength = mainLength;
}

/** Returns the position behind the reference. `relationBlock` is the block whose relation a same-rel reference repeats, or -1. */
function decodeBlockReference(record: WalRecord, start: number, end: number, relationBlock: number): number {
  const { bytes, view } = record;
  if (end - start < 4) throw corrupt(record, 'cut short inside a block reference');
  const id = bytes[start]!;
  const forkFlags = bytes[start + 1]!;
  const dataLength = view.getUint16(start + 2, true);
  const fork = forkFlags & BKPBLOCK_FORK_MASK;
  if (id <= record.maxBlockId) throw corrupt(record, `block ids are not rising at ${id}`);
  if (fork > FORK_MAX) throw corrupt(record, `block ${id} names fork ${fork}`);
  if (((forkFlags & BKPBLOCK_HAS_DATA) !== 0) !== dataLength > 0) {
    throw corrupt(record, `block ${id} has ${dataLength} data bytes against its flag`);
  }
  record.maxBlockId = id;
  record.blockPresent[id] = 1;
  record.blockFlags[id] = forkFlags & ~BKPBLOCK_FORK_MASK;
  record.blockFork[id] = fork;
  record.blockDataLength[id] = dataLength;

  let at = start + 4;
  if (forkFlags & BKPBLOCK_HAS_IMAGE) {
    at = decodeImageHeader(record, id, at, end);
  } else {
    record.blockHasImage[id] = 0;
    record.blockApplyImage[id] = 0;
    record.imageLength[id] = 0;
  }

  const sameRel = (forkFlags & BKPBLOCK_SAME_REL) !== 0;
  if (end - at < (sameRel ? 4 : 16)) throw corrupt(record, `cut short inside block reference ${id}`);
  if (!sameRel) {
    record.blockSpc[id] = view.getUint32(at, true);
    record.blockDb[id] = view.getUint32(at + 4, true);
    record.blockRel[id] = view.getUint32(at + 8, true);
    at += 12;
  } else {
    if (relationBlock < 0) throw corrupt(record, `block ${id} repeats a relation, but none came before`);
    record.blockSpc[id] = record.blockSpc[relationBlock]!;
    record.blockDb[id] = record.blockDb[relationBlock]!;
    record.blockRel[id] = record.blockRel[relationBlock]!;
  }
  record.blockNumber[id] = view.getUint32(at, true);
  return at + 4;
}

/** The same plausibility checks as the server's reader. Returns the position behind the header. */
function decodeImageHeader(record: WalRecord, id: number, start: number, end: number): number {
  const { bytes, view } = record;
  if (end - start < 5) throw corrupt(record, `cut short inside the image header of block ${id}`);
  const length = view.getUint16(start, true);
  const holeOffset = view.getUint16(start + 2, true);
  const flags = bytes[start + 4]!;
  const compression = flags & BKPIMAGE_COMPRESSION_BITS;
  const hasHole = (flags & BKPIMAGE_HAS_HOLE) !== 0;
  let at = start + 5;
  let holeLength = 0;
  if (compression === 0) {
    holeLength = BLCKSZ - length;
  } else if (hasHole) {
    if (end - at < 2) throw corrupt(record, `cut short inside the image header of block ${id}`);
    holeLength = view.getUint16(at, true);
    at += 2;
  }
  const holeValid = hasHole
    ? holeOffset > 0 && holeLength > 0 && holeOffset + holeLength <= BLCKSZ
    : holeOffset === 0 && holeLength === 0;
  const oneMethod = (compression & (compression - 1)) === 0;
  if (!holeValid || !oneMethod || length > BLCKSZ || (compression !== 0 && length === BLCKSZ)) {
    throw corrupt(
      record,
      `image of block ${id} is not possible: length ${length}, hole ${holeLength} at ${holeOffset}, flags ${flags}`,
    );
  }
  record.blockHasImage[id] = 1;
  record.blockApplyImage[id] = flags & BKPIMAGE_APPLY ? 1 : 0;
  record.imageLength[id] = length;
  record.imageHoleOffset[id] = holeOffset;
  record.imageHoleLength[id] = holeLength;
  // Bits 4, 8, 16 become 1, 2, 3.
  record.imageCompression[id] = compression === 16 ? IMAGE_ZSTD : compression >>> 2;
  return at;
}
