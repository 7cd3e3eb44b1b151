/**
 * The block formats in which Postgres compresses page images: pglz and LZ4 (here) and zstd (node:zlib). Input is not trusted:
 * nothing is read or written outside the given ranges, and damage gives StorageError `corrupt`.
 *
 *   pglz: a control byte governs eight items, lowest bit first. Bit 0: one literal byte. Bit 1: a copy of earlier output,
 *     byte 0 = offset bits 8..11 (high nibble), length − 3 (low nibble); byte 1 = offset bits 0..7; length 18: byte 2 is added.
 *   LZ4: token (literal count high nibble, match length − 4 low nibble; 15 is continued by bytes until one is not 255),
 *     literals, u16 offset, the match length's continuation. The last sequence ends behind its literals.
 */
import { zstdDecompressSync } from 'node:zlib';
import { StorageError } from '../core/errors.js';

const PGLZ_LENGTH_MIN = 3;
const PGLZ_LENGTH_LONG = 18;
const LZ4_LENGTH_MIN = 4;
const LZ4_NIBBLE_MAX = 15;

function damaged(method: string): StorageError {
  return new StorageError('corrupt', `${method} data is damaged`);
}

/** Both lie within one array; they may overlap, and then the copy repeats itself, byte after byte. */
function repeat(out: Uint8Array, from: number, to: number, length: number): void {
  if (to - from >= length && length > 32) {
    out.copyWithin(to, from, from + length);
    return;
  }
  for (let i = 0; i < length; i++) out[to + i] = out[from + i]!;
}

/** Decompresses input[start, end) into exactly out[0, length). */
export function decompressPglz(input: Uint8Array, start: number, end: number, out: Uint8Array, length: number): void {
  let at = start;
  let to = 0;
  while (at < end && to < length) {
    let control = input[at++]!;
    for (let item = 0; item < 8 && at < end && to < length; item++, control >>>= 1) {
      if ((control & 1) === 0) {
        out[to++] = input[at++]!;
        continue;
      }
      if (end - at < 2) throw damaged('pglz');
      const first = input[at]!;
      const offset = ((first & 0xf0) << 4) | input[at + 1]!;
      let count = (first & 0x0f) + PGLZ_LENGTH_MIN;
      at += 2;
      if (count === PGLZ_LENGTH_LONG) {
        if (at >= end) throw damaged('pglz');
        count += input[at++]!;
      }
      if (offset === 0 || offset > to) throw damaged('pglz');
      // The compressor may announce a match longer than what is left of the output.
      count = Math.min(count, length - to);
      repeat(out, to - offset, to, count);
      to += count;
    }
  }
  if (at !== end || to !== length) throw damaged('pglz');
}

/** Decompresses input[start, end) into exactly out[0, length). */
export function decompressLz4(input: Uint8Array, start: number, end: number, out: Uint8Array, length: number): void {
  let at = start;
  let to = 0;
  for (;;) {
    if (at >= end) throw damaged('LZ4');
    const token = input[at++]!;
    let literals = token >>> 4;
    if (literals === LZ4_NIBBLE_MAX) {
      let more: number;
      do {
        if (at >= end) throw damaged('LZ4');
        more = input[at++]!;
        literals += more;
      } while (more === 255);
    }
    if (literals > end - at || literals > length - to) throw damaged('LZ4');
    for (let i = 0; i < literals; i++) out[to + i] = input[at + i]!;
    at += literals;
    to += literals;
    if (at === end) break;
    if (end - at < 2) throw damaged('LZ4');
    const offset = input[at]! | (input[at + 1]! << 8);
    at += 2;
    let count = (token & 0x0f) + LZ4_LENGTH_MIN;
    if ((token & 0x0f) === LZ4_NIBBLE_MAX) {
      let more: number;
      do {
        if (at >= end) throw damaged('LZ4');
        more = input[at++]!;
        count += more;
      } while (more === 255);
    }
    if (offset === 0 || offset > to || count > length - to) throw damaged('LZ4');
    repeat(out, to - offset, to, count);
    to += count;
  }
  if (to !== length) throw damaged('LZ4');
}

/** Decompresses input[start, end) into exactly out[0, length). */
export function decompressZstd(input: Uint8Array, start: number, end: number, out: Uint8Array, length: number): void {
  let plain: Uint8Array;
  try {
    plain = zstdDecompressSync(input.subarray(start, end), { maxOutputLength: length });
  } catch (cause) {
    throw new StorageError('corrupt', 'zstd data is damaged', { cause });
  }
  if (plain.length !== length) throw damaged('zstd');
  out.set(plain, 0);
}
