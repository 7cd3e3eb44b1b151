/** Unsigned LEB128 numbers up to 2^53, in JavaScript numbers. */
import { StorageError } from '#shared/core/errors.js';

export const VARINT_BYTES_MAX = 8;

/** Returns the offset behind it. */
export function writeVarint(value: number, out: Uint8Array, offset: number): number {
  let rest = value;
  let at = offset;
  while (rest >= 0x8000_0000) {
    out[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  while (rest >= 128) {
    out[at++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[at++] = rest;
  return at;
}

/** Reads numbers one after the other; StorageError `corrupt` past the end or above 2^53. */
export class VarintReader {
  offset = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  next(): number {
    const bytes = this.bytes;
    let byte = this.byte();
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    for (let i = 1; i < VARINT_BYTES_MAX; i++) {
      byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 128;
    }
    throw new StorageError('corrupt', `number too long at byte ${this.offset} of ${bytes.length}`);
  }

  byte(): number {
    if (this.offset >= this.bytes.length) throw new StorageError('corrupt', `cut off at byte ${this.offset}`);
    return this.bytes[this.offset++]!;
  }
}
