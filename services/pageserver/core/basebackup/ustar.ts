/**
 * Packs entries into the bytes of a ustar archive.
 *
 *   per entry a header of 512 bytes, then its content padded with zeros to a multiple of 512; at the end 1024 zeros
 *
 *   header (numbers in octal, zero-terminated)
 *   0 path (100)   100 mode (8)   108 uid (8)   116 gid (8)   124 size (12)   136 mtime (12)   148 checksum (8)
 *   156 type '0' file, '5' directory   157 link (100)   257 "ustar\0" "00"   345 path prefix (155)
 */
import { StorageError } from '#shared/core/errors.js';
import type { TarEntry } from './tar-entry.js';

const BLOCK_BYTES = 512;
const PATH_BYTES = 100;
const CHECKSUM_AT = 148;
const CHECKSUM_BYTES = 8;
/** Eleven octal digits. */
const SIZE_MAX = 8 ** 11 - 1;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/** `timeS`: modification time of all entries. */
export async function* packTar(
  entries: AsyncIterable<TarEntry> | Iterable<TarEntry>,
  timeS: number,
): AsyncGenerator<Uint8Array> {
  for await (const entry of entries) {
    yield ustarHeader(entry, timeS);
    let length = 0;
    for await (const piece of entry.pieces) {
      length += piece.length;
      yield piece;
    }
    if (length !== entry.sizeBytes) {
      throw new StorageError('internal', `${entry.path} has ${length} bytes, announced ${entry.sizeBytes}`);
    }
    const padding = -length & (BLOCK_BYTES - 1);
    if (padding > 0) yield ZEROS.subarray(0, padding);
  }
  yield new Uint8Array(2 * BLOCK_BYTES);
}

export function ustarHeader(entry: TarEntry, timeS: number): Uint8Array {
  const header = Buffer.alloc(BLOCK_BYTES);
  const path = entry.type === 'directory' ? `${entry.path}/` : entry.path;
  if (Buffer.byteLength(path) > PATH_BYTES) throw new StorageError('invalid', `"${path}" is too long for a tar`);
  if (entry.sizeBytes > SIZE_MAX) throw new StorageError('invalid', `${path} is too large for a tar`);
  header.write(path, 0);
  header.write(octal(entry.mode, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  header.write(octal(entry.sizeBytes, 11), 124);
  header.write(octal(Math.max(0, Math.floor(timeS)), 11), 136);
  header.write(entry.type === 'directory' ? '5' : '0', 156);
  header.write('ustar\u000000', 257);
  header.fill(0x20, CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_BYTES);
  const checksum = header.reduce((sum, byte) => sum + byte, 0);
  header.write(`${octal(checksum, 6)}\u0000 `, CHECKSUM_AT);
  return header;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
