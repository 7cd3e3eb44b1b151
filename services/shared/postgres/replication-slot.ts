/**
 * pg_replslot/NAME/state of PostgreSQL 15 for a physical slot: 200 bytes, little endian.
 *
 *   0 u32 magic 0x01051CA1   4 u32 CRC-32C of [8, 200)   8 u32 version 2   12 u32 length of the rest, 184
 *   16 name (64, zero-padded)   80 u32 database   84 u32 persistency   88 u32 xmin   92 u32 catalog xmin   96 u64 restart LSN
 *   104 u64 invalidated at   112 u64 confirmed flush   120 u64 two-phase at   128 u8 two-phase   129 plugin (64)   193 padding
 */
import { StorageError } from '../core/errors.js';
import { type Lsn } from '../core/lsn.js';
import { crc32c } from './crc32c.js';

const MAGIC = 0x01051ca1;
const VERSION = 2;
const FILE_BYTES = 200;
const CRC_AT = 4;
const CRC_FROM = 8;
const BODY_FROM = 16;
const RESTART_LSN_AT = 96;

/** A persistent slot that keeps WAL from `restartLsn` on. Names have 1 to 63 of a–z, 0–9 and _, as the server demands. */
export function physicalSlotState(slot: { readonly name: string; readonly restartLsn: Lsn }): Uint8Array {
  if (!/^[a-z0-9_]{1,63}$/.test(slot.name)) throw new StorageError('invalid', `"${slot.name}" is not a slot name`);
  const bytes = new Uint8Array(FILE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, FILE_BYTES - BODY_FROM, true);
  bytes.set(Buffer.from(slot.name, 'latin1'), BODY_FROM);
  view.setBigUint64(RESTART_LSN_AT, BigInt(slot.restartLsn), true);
  view.setUint32(CRC_AT, crc32c(bytes, CRC_FROM), true);
  return bytes;
}
