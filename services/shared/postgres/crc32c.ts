/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, start and final xor 0xffffffff), as Postgres uses it for WAL records,
 * pg_control, two-phase and slot files. Short inputs are summed in place, long ones through the WebAssembly kernel.
 */
import { CACHE_AT, kernel, makeTables, REGION_BYTES, STAGE_AT } from './crc32c-kernel.js';

/** Below this the copy into the kernel's memory costs more than it saves. */
const KERNEL_BYTES_MIN = 192;
const TABLE = makeTables(4);

/** Raw state over bytes[start, end): begin with 0xffffffff, chain calls, finish by xor with 0xffffffff. */
export function crc32cUpdate(state: number, bytes: Uint8Array, start: number, end: number): number {
  if (end - start < KERNEL_BYTES_MIN) return updateInPlace(state, bytes, start, end);
  let crc = state;
  for (let at = start; at < end; at += REGION_BYTES) {
    const length = Math.min(REGION_BYTES, end - at);
    kernel.memory.set(bytes.subarray(at, at + length), STAGE_AT);
    crc = kernel.update(crc, STAGE_AT, STAGE_AT + length);
  }
  return crc >>> 0;
}

/** Finished CRC of bytes[start, end), unsigned. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  return (crc32cUpdate(0xffffffff, bytes, start, end) ^ 0xffffffff) >>> 0;
}

/**
 * CRC of a WAL record of `length` bytes (≥ 24) at bytes[offset]: Postgres takes what follows the 24-byte header first, then the
 * header's first 20 bytes (the last 4 hold the CRC).
 */
export function recordCrc(bytes: Uint8Array, offset: number, length: number): number {
  const body = crc32cUpdate(0xffffffff, bytes, offset + 24, offset + length);
  return (crc32cUpdate(body, bytes, offset, offset + 20) ^ 0xffffffff) >>> 0;
}

/** What lies in the kernel's cache region: cachedBytes[cachedFrom, cachedTo). */
let cachedBytes: Uint8Array | null = null;
let cachedFrom = 0;
let cachedTo = 0;

/**
 * The same as recordCrc, for many records that lie one behind the other in one buffer, valid up to `filled`: the buffer is copied
 * to the kernel in large pieces. Who changes bytes below `filled` must call forgetCached.
 */
export function recordCrcCached(bytes: Uint8Array, offset: number, length: number, filled: number): number {
  if (length > REGION_BYTES) return recordCrc(bytes, offset, length);
  if (bytes !== cachedBytes || offset < cachedFrom || offset + length > cachedTo) {
    cachedBytes = bytes;
    cachedFrom = offset;
    cachedTo = Math.min(filled, offset + REGION_BYTES);
    kernel.memory.set(bytes.subarray(cachedFrom, cachedTo), CACHE_AT);
  }
  return kernel.record(CACHE_AT + offset - cachedFrom, length) >>> 0;
}

export function forgetCached(bytes: Uint8Array): void {
  if (cachedBytes === bytes) cachedBytes = null;
}

function updateInPlace(state: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = state | 0;
  let at = start;
  for (const wordsEnd = end - 3; at < wordsEnd; at += 4) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      TABLE[768 + (crc & 0xff)]! ^
      TABLE[512 + ((crc >>> 8) & 0xff)]! ^
      TABLE[256 + ((crc >>> 16) & 0xff)]! ^
      TABLE[crc >>> 24]!;
  }
  for (; at < end; at++) crc = TABLE[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return crc >>> 0;
}
