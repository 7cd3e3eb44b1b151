/**
 * WAL of the simulated worlds: records of whole multiples of 8 bytes, without page headers.
 *
 *   byte 0: length of the record (8..64)   bytes 1..: the number of the compute that wrote it (1..255), in every byte
 *
 * A record of which a part was lost (zeros, or bytes of another writer) is thereby known as damaged, as a CRC would tell.
 */
import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { RecordDecoder } from '../../services/safekeeper/core/acceptor-types.js';

export const LOG_BYTES_MAX = 1 << 14;
/** Small, so that the rules about lazily written positions, which count in segments, come into play. */
export const SEG_SIZE = 1 << 8;
/** Where the timeline's WAL begins. */
export const ORIGIN = lsn(512);
export const RECORD_BYTES_MAX = 64;

function isWhole(bytes: Uint8Array, at: number, length: number): boolean {
  const mark = bytes[at + 1];
  if (length % 8 !== 0 || length > RECORD_BYTES_MAX || mark === 0) return false;
  for (let index = at + 2; index < at + length; index++) if (bytes[index] !== mark) return false;
  return true;
}

/** End of the last whole record of bytes[from, to), where records follow each other from `from` on. */
export function lastRecordEnd(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  for (let length = bytes[at] ?? 0; length > 0 && at + length <= to; length = bytes[at] ?? 0) {
    if (!isWhole(bytes, at, length)) break;
    at += length;
  }
  return at;
}

/** Follows record boundaries, as WalStreamDecoder does for real WAL. */
export class ToyDecoder implements RecordDecoder {
  recordEndLsn: Lsn;
  private length = 0;
  private have = 0;

  constructor(at: Lsn) {
    this.recordEndLsn = at;
  }

  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.have === 0) this.length = bytes[at] ?? 0;
      assert.ok(this.length >= 8 && this.length % 8 === 0, 'damaged WAL reached a safekeeper');
      const taken = Math.min(this.length - this.have, bytes.length - at);
      at += taken;
      this.have += taken;
      if (this.have < this.length) return;
      this.recordEndLsn = lsn(this.recordEndLsn + this.length);
      this.have = 0;
    }
  }

  /** All whole records were taken by `feed` already. */
  next(): boolean {
    return false;
  }
}
