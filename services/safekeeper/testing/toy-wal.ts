/**
 * For tests of the acceptor: records small enough to read in a trace. A record is: u8 length (4..255), payload, u16 checksum of all
 * before. Zeros are the end of the log.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, type Lsn } from '#shared/core/lsn.js';
import type { RecordDecoder } from '../core/acceptor-types.js';

export const TOY_BYTES_MIN = 4;

export function toyRecord(length: number, fill: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(fill);
  bytes[0] = length;
  const sum = checksum(bytes, length - 2);
  bytes[length - 2] = sum & 0xff;
  bytes[length - 1] = sum >>> 8;
  return bytes;
}

function checksum(bytes: Uint8Array, length: number): number {
  let sum = 1;
  for (let at = 0; at < length; at++) sum = (sum * 31 + (bytes[at] as number) + 1) & 0xffff;
  return sum;
}

export class ToyDecoder implements RecordDecoder {
  recordEndLsn: Lsn;
  private rest = new Uint8Array(0);

  constructor(at: Lsn) {
    this.recordEndLsn = at;
  }

  feed(bytes: Uint8Array): void {
    this.rest = Uint8Array.from([...this.rest, ...bytes]);
  }

  next(): boolean {
    const length = this.rest[0];
    if (length === undefined) return false;
    if (length < TOY_BYTES_MIN) throw new StorageError('corrupt', `no record at ${formatLsn(this.recordEndLsn)}`);
    if (this.rest.length < length) return false;
    const sum = (this.rest[length - 2] as number) | ((this.rest[length - 1] as number) << 8);
    if (sum !== checksum(this.rest, length - 2)) {
      throw new StorageError('corrupt', `record at ${formatLsn(this.recordEndLsn)} fails its checksum`);
    }
    this.rest = this.rest.slice(length);
    this.recordEndLsn = lsn(this.recordEndLsn + length);
    return true;
  }
}

/** End of the last whole record in bytes that begin at `from`. */
export function toyEnd(bytes: Uint8Array, from: Lsn): Lsn {
  const decoder = new ToyDecoder(from);
  decoder.feed(bytes);
  try {
    while (decoder.next());
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
  }
  return decoder.recordEndLsn;
}
