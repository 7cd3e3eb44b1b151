/**
 * The value that is stored for a page version which is not an image: all that redo of this one block needs from a WAL record.
 * Little endian; the first byte is the tag. Tags from 16 on are the page changes that WAL implies without naming the block
 * (neon-records.ts).
 *
 *   tag 1, a record                                      tag 2, the block image that the record carried
 *   0  u8  tag                                           0  u8  tag
 *   1  u8  flags: 1 makes the page from nothing          1  u8  flags: 1; 2 a GiST split is complete
 *   2  u8  resource manager                              2  u16 hole offset
 *   3  u8  info, the resource manager's 4 bits           4  u16 hole length
 *   4  u8  id of this block in the record                6  pad
 *   5  u8  number n of block ids, used or not            8  the page without its hole
 *   6  u16 length of this block's data
 *   8  u32 xid
 *   12 u32[n] block numbers, 0xffffffff for an id not in use
 *   .. main data (what redo reads of it), then this block's data, to the end
 *
 * The store guards its bytes with a CRC; here lengths are checked, so that a wrong value is an error and never a read past it.
 */
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import {
  BKPBLOCK_WILL_INIT,
  BLCKSZ,
  blockImage,
  XLR_RMGR_INFO_MASK,
  type WalRecord,
} from '#shared/postgres/wal-record.js';
import { memory, peek16, peek32, peek8, RECORD, RECORD_BYTES_MAX } from './arena.js';
import { RM_GIST, RM_HEAP, RM_XLOG, XLOG_FPI, XLOG_FPI_FOR_HINT } from '#shared/postgres/rmgr.js';

export const TAG_RECORD = 1;
export const TAG_IMAGE = 2;
export const TAG_NEON_MIN = 16;
export const FLAG_WILL_INIT = 1;

/** Of an image: what completes the split of this GiST page must be done to it as well. */
export const FLAG_GIST_CHILD = 2;

export const NO_BLOCK = 0xffff_ffff;
const RECORD_HEADER_BYTES = 12;
const IMAGE_HEADER_BYTES = 8;

const imageScratch = new Uint8Array(BLCKSZ);
/** Where values are put together: most are some hundred bytes, and a buffer of its own for each would cost more than filling it. */
let valueScratch = new Uint8Array(4 * BLCKSZ);

const GIST_PAGE_UPDATE = 0x00;
const GIST_PAGE_SPLIT = 0x30;
const HEAP_OPCODES = 0x70;
const HEAP_DELETE = 0x10;
const HEAP_UPDATE = 0x20;
const HEAP_HOT_UPDATE = 0x40;
const DELETE_BYTES = 8;
const UPDATE_BYTES = 14;

/** What redo of block `blockId` needs of the record. Throws StorageError `corrupt` for an image that cannot be read. */
export function encodeSlimRecord(record: WalRecord, blockId: number): Uint8Array {
  return shareSlimRecord(record, blockId).slice();
}

/** As encodeSlimRecord; the bytes are good until the next call. */
export function shareSlimRecord(record: WalRecord, blockId: number): Uint8Array {
  if (record.blockHasImage[blockId] === 1 && record.blockApplyImage[blockId] === 1) {
    return encodeImage(record, blockId);
  }
  const info = record.info & XLR_RMGR_INFO_MASK;
  if (record.rmid === RM_XLOG && info === XLOG_FPI) {
    throw new StorageError('corrupt', `full-page record without an image of block ${blockId}`);
  }
  const idCount = record.maxBlockId + 1;
  const mainBytes = Math.min(record.mainDataLength, mainBytesNeeded(record.rmid, info));
  const dataBytes = record.blockDataLength[blockId]!;
  const mainAt = RECORD_HEADER_BYTES + 4 * idCount;
  const valueBytes = mainAt + mainBytes + dataBytes;
  if (valueBytes > RECORD_BYTES_MAX) {
    throw new StorageError('unimplemented', `a WAL record of ${valueBytes} bytes for one page is above the limit`);
  }
  const out = scratchOf(valueBytes);
  out[0] = TAG_RECORD;
  out[1] = record.blockFlags[blockId]! & BKPBLOCK_WILL_INIT ? FLAG_WILL_INIT : 0;
  out[2] = record.rmid;
  out[3] = info;
  out[4] = blockId;
  out[5] = idCount;
  out[6] = dataBytes;
  out[7] = dataBytes >>> 8;
  put32(out, 8, record.xid);
  for (let id = 0; id < idCount; id++) {
    put32(out, RECORD_HEADER_BYTES + 4 * id, record.blockPresent[id] === 1 ? record.blockNumber[id]! : NO_BLOCK);
  }
  copyBytes(record.bytes, record.mainDataOffset, out, mainAt, mainBytes);
  copyBytes(record.bytes, record.blockDataOffset[blockId]!, out, mainAt + mainBytes, dataBytes);
  return out.subarray(0, valueBytes);
}

function scratchOf(bytes: number): Uint8Array {
  if (bytes > valueScratch.length) valueScratch = new Uint8Array(2 * bytes);
  return valueScratch;
}

/** Bytes of main data that redo of a block reads. With wal_level=logical the old row follows; storage has no use for it. */
function mainBytesNeeded(rmid: number, info: number): number {
  if (rmid !== RM_HEAP) return Infinity;
  const opcode = info & HEAP_OPCODES;
  if (opcode === HEAP_DELETE) return DELETE_BYTES;
  return opcode === HEAP_UPDATE || opcode === HEAP_HOT_UPDATE ? UPDATE_BYTES : Infinity;
}

function encodeImage(record: WalRecord, blockId: number): Uint8Array {
  const holeOffset = record.imageHoleOffset[blockId]!;
  const holeBytes = record.imageHoleLength[blockId]!;
  blockImage(record, blockId, imageScratch);
  const valueBytes = IMAGE_HEADER_BYTES + BLCKSZ - holeBytes;
  const out = scratchOf(valueBytes).subarray(0, valueBytes);
  out[0] = TAG_IMAGE;
  out[1] = isGistChild(record, blockId) ? FLAG_WILL_INIT | FLAG_GIST_CHILD : FLAG_WILL_INIT;
  out[2] = holeOffset;
  out[3] = holeOffset >>> 8;
  out[4] = holeBytes;
  out[5] = holeBytes >>> 8;
  out[6] = 0;
  out[7] = 0;
  out.set(imageScratch.subarray(0, holeOffset), IMAGE_HEADER_BYTES);
  out.set(imageScratch.subarray(holeOffset + holeBytes), IMAGE_HEADER_BYTES + holeOffset);
  return out;
}

function isGistChild(record: WalRecord, blockId: number): boolean {
  if (record.rmid !== RM_GIST) return false;
  const info = record.info & XLR_RMGR_INFO_MASK;
  return (info === GIST_PAGE_UPDATE && blockId === 1) || (info === GIST_PAGE_SPLIT && blockId === 0);
}

function put32(out: Uint8Array, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
  out[at + 2] = value >>> 16;
  out[at + 3] = value >>> 24;
}

function copyBytes(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, count: number): void {
  if (count > 64) {
    to.set(from.subarray(fromAt, fromAt + count), toAt);
    return;
  }
  for (let i = 0; i < count; i++) to[toAt + i] = from[fromAt + i]!;
}

/** Whether the page version needs nothing older. */
export function slimWillInit(value: Uint8Array): boolean {
  return value.length >= 2 && (value[1]! & FLAG_WILL_INIT) !== 0;
}

/** A hint bit logged without its image (full_page_writes off): changes no byte, so no version need be stored. */
export function changesNothing(record: WalRecord, blockId: number): boolean {
  return (
    record.rmid === RM_XLOG &&
    (record.info & XLR_RMGR_INFO_MASK) === XLOG_FPI_FOR_HINT &&
    !(record.blockHasImage[blockId] === 1 && record.blockApplyImage[blockId] === 1)
  );
}

/** The value being applied: addresses are in the arena. One instance, refilled for every value. */
export class SlimRecord {
  endLsn: Lsn = INVALID_LSN;
  tag = 0;
  flags = 0;
  rmid = 0;
  info = 0;
  xid = 0;
  blockId = 0;
  /** Of main data. */
  mainAt = 0;
  mainBytes = 0;
  dataAt = 0;
  dataBytes = 0;
  /** Number of block ids. */
  private idCount = 0;

  /** Takes the value into the arena. Throws StorageError `corrupt` when its lengths are wrong. */
  load(value: Uint8Array, endLsn: Lsn): void {
    if (value.length < 2 || value.length > RECORD_BYTES_MAX) throw cutShort('value', value.length);
    memory.set(value, RECORD);
    this.endLsn = endLsn;
    this.tag = peek8(RECORD);
    this.flags = peek8(RECORD + 1);
    if (this.tag === TAG_RECORD) {
      if (value.length < RECORD_HEADER_BYTES) throw cutShort('record', value.length);
      this.rmid = peek8(RECORD + 2);
      this.info = peek8(RECORD + 3);
      this.blockId = peek8(RECORD + 4);
      this.idCount = peek8(RECORD + 5);
      this.dataBytes = peek16(RECORD + 6);
      this.xid = peek32(RECORD + 8);
      this.mainAt = RECORD + RECORD_HEADER_BYTES + 4 * this.idCount;
      this.dataAt = RECORD + value.length - this.dataBytes;
      this.mainBytes = this.dataAt - this.mainAt;
      if (this.mainBytes < 0 || this.blockId >= this.idCount) throw cutShort('record', value.length);
      return;
    }
    // Images and neon records: all behind the first two bytes is read by their own code.
    this.mainAt = RECORD;
    this.mainBytes = value.length;
  }

  /** Block number of block `id` in the record; NO_BLOCK when it has none. */
  blockNumber(id: number): number {
    return id < this.idCount ? peek32(RECORD + RECORD_HEADER_BYTES + 4 * id) : NO_BLOCK;
  }

  /** Throws unless main data has at least `bytes`. */
  needMain(bytes: number): void {
    if (this.mainBytes < bytes) throw cutShort('main data', this.mainBytes);
  }

  /** Throws unless this block's data has at least `bytes`. */
  needData(bytes: number): void {
    if (this.dataBytes < bytes) throw cutShort('block data', this.dataBytes);
  }
}

/** Puts the image back in place, its hole as zeros. */
export function restoreImage(page: number, record: SlimRecord): void {
  record.needMain(IMAGE_HEADER_BYTES);
  const holeOffset = peek16(record.mainAt + 2);
  const holeBytes = peek16(record.mainAt + 4);
  const from = record.mainAt + IMAGE_HEADER_BYTES;
  if (holeOffset + holeBytes > BLCKSZ || record.mainBytes !== IMAGE_HEADER_BYTES + BLCKSZ - holeBytes) {
    throw cutShort('image', record.mainBytes);
  }
  memory.copyWithin(page, from, from + holeOffset);
  memory.fill(0, page + holeOffset, page + holeOffset + holeBytes);
  memory.copyWithin(page + holeOffset + holeBytes, from + holeOffset, record.mainAt + record.mainBytes);
}

function cutShort(what: string, bytes: number): StorageError {
  return new StorageError('corrupt', `${what} of ${bytes} bytes is not what its header says`);
}
