/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, start and final xor 0xffffffff), as Postgres uses it for WAL records,
 * pg_control, two-phase and slot files. Eight bytes a step over eight tables.
 */

const POLYNOMIAL = 0x82f63b78;

/** Table k (entries k*256 .. k*256+255) advances a byte over k further zero bytes. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256]!;
    tables[i] = tables[previous & 0xff]! ^ (previous >>> 8);
  }
  return tables;
}

/** Raw state over bytes[start, end): begin with 0xffffffff, chain calls, finish by xor with 0xffffffff. */
export function crc32cUpdate(state: number, bytes: Uint8Array, start: number, end: number): number {
  const table = TABLES;
  let crc = state | 0;
  let at = start;
  for (const wordsEnd = end - 7; at < wordsEnd; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      table[1792 + (crc & 0xff)]! ^
      table[1536 + ((crc >>> 8) & 0xff)]! ^
      table[1280 + ((crc >>> 16) & 0xff)]! ^
      table[1024 + (crc >>> 24)]! ^
      table[768 + bytes[at + 4]!]! ^
      table[512 + bytes[at + 5]!]! ^
      table[256 + bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!;
  }
  for (; at < end; at++) crc = table[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
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
