/**
 * State files of prepared transactions, pg_twophase/XXXXXXXX (8 hex digits of the xid): the main data of the PREPARE record,
 * then its CRC-32C.
 *
 *   0  u32 magic 0x57F94534   4 u32 length including the CRC   8 u32 xid   12 u32 database   16 i64 time   24 u32 owner
 *   28 i32 subxids   32 i32 relations dropped at commit   36 i32 at abort   40, 44 i32 statistics likewise
 *   48 i32 invalidation messages   52 u8 flag   54 u16 name length with its zero   56 u64 origin LSN   64 i64 origin time
 *   72 name; then, each padded to 8: subxids (u32), relations (12 bytes each) of commit, of abort, … ; last the CRC
 */
import { StorageError } from '../core/errors.js';
import type { Lsn } from '../core/lsn.js';
import { crc32c } from './crc32c.js';
import { readLsn } from './wal-layout.js';
import type { WalRecord } from './wal-record.js';
import type { RelationFile } from './xact-record.js';

const MAGIC = 0x57f94534;
const HEADER_BYTES = 72;
const CRC_BYTES = 4;

export interface TwoPhaseState {
  readonly xid: number;
  readonly database: number;
  readonly preparedAtUs: number;
  readonly owner: number;
  /** Position in its origin's WAL; 0 when it has none. */
  readonly originLsn: Lsn;
  readonly gid: string;
  readonly subxids: readonly number[];
  readonly commitRelations: readonly RelationFile[];
  readonly abortRelations: readonly RelationFile[];
}

/** File name of the transaction with this xid. */
export function twoPhaseFileName(xid: number): string {
  return xid.toString(16).toUpperCase().padStart(8, '0');
}

/** The state file that an XLOG_XACT_PREPARE record asks for; its own memory. Throws `corrupt`. */
export function twoPhaseFile(record: WalRecord): Uint8Array {
  const length = record.mainDataLength;
  const file = new Uint8Array(length + CRC_BYTES);
  file.set(record.bytes.subarray(record.mainDataOffset, record.mainDataOffset + length), 0);
  parseState(file, length);
  new DataView(file.buffer).setUint32(length, crc32c(file, 0, length), true);
  return file;
}

/** Of an XLOG_XACT_PREPARE record. Throws `corrupt`. */
export function parsePrepare(record: WalRecord): TwoPhaseState {
  const start = record.mainDataOffset;
  return parseState(record.bytes.subarray(start, start + record.mainDataLength), record.mainDataLength);
}

/** Checks length and CRC as well. Throws `corrupt`. */
export function parseTwoPhaseFile(file: Uint8Array): TwoPhaseState {
  const length = file.length - CRC_BYTES;
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  if (length < HEADER_BYTES || view.getUint32(length, true) !== crc32c(file, 0, length)) {
    throw new StorageError('corrupt', `two-phase state file of ${file.length} bytes fails its CRC`);
  }
  return parseState(file, length);
}

function parseState(bytes: Uint8Array, length: number): TwoPhaseState {
  const corrupt = (): StorageError => new StorageError('corrupt', `two-phase state of ${length} bytes is damaged`);
  if (length < HEADER_BYTES) throw corrupt();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== length + CRC_BYTES) throw corrupt();
  let at = HEADER_BYTES;
  const section = (itemBytes: number, count: number): number => {
    const start = at;
    if (count < 0 || count * itemBytes > length - start) throw corrupt();
    at += Math.ceil((count * itemBytes) / 8) * 8;
    return start;
  };
  const relations = (count: number): RelationFile[] => {
    const start = section(12, count);
    return Array.from({ length: count }, (_, index) => {
      const item = start + index * 12;
      return {
        spc: view.getUint32(item, true),
        db: view.getUint32(item + 4, true),
        rel: view.getUint32(item + 8, true),
      };
    });
  };
  const gidBytes = view.getUint16(54, true);
  const gidStart = section(1, gidBytes);
  const subxidCount = view.getInt32(28, true);
  const subxidStart = section(4, subxidCount);
  return {
    xid: view.getUint32(8, true),
    database: view.getUint32(12, true),
    preparedAtUs: Number(view.getBigInt64(16, true)),
    owner: view.getUint32(24, true),
    originLsn: readLsn(view, 56),
    gid: Buffer.from(bytes.subarray(gidStart, gidStart + Math.max(0, gidBytes - 1))).toString('utf8'),
    subxids: Array.from({ length: subxidCount }, (_, index) => view.getUint32(subxidStart + index * 4, true)),
    commitRelations: relations(view.getInt32(32, true)),
    abortRelations: relations(view.getInt32(36, true)),
  };
}
