/**
 * Bloom filter over the keys of a layer: ten bits a key, six probes, about one false "maybe" in a hundred. Stored as bare bytes; the
 * number of bits is their length times eight. The hash is over the 18 key bytes (not over the process' key number), so that it is the
 * same in every process.
 */
import type { Key } from '../key.js';
import { keyBlock, keyPrefixId, prefixBytes } from '../key.js';

const BITS_PER_KEY = 10;
const PROBES = 6;
/** 2^32 bits would overflow the arithmetic; layers are far smaller. */
const FILTER_BYTES_MAX = 1 << 28;

const prefixHashes: number[] = [];

function prefixHash(prefixId: number): number {
  const known = prefixHashes[prefixId];
  if (known !== undefined) return known;
  let hash = 0x811c9dc5;
  for (const byte of prefixBytes(prefixId)) hash = Math.imul(hash ^ byte, 0x01000193);
  prefixHashes[prefixId] = hash;
  return hash;
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

export function keyHash(key: Key): number {
  return mix(prefixHash(keyPrefixId(key)) ^ Math.imul(keyBlock(key), 0x9e3779b1));
}

/** From the hashes of all distinct keys. */
export function buildFilter(hashes: readonly number[]): Uint8Array {
  const sizeBytes = Math.min(FILTER_BYTES_MAX, Math.ceil((hashes.length * BITS_PER_KEY + 64) / 8));
  const filter = new Uint8Array(sizeBytes);
  const bits = sizeBytes * 8;
  for (const hash of hashes) {
    const step = mix(hash ^ 0x7f4a7c15) | 1;
    let at = hash;
    for (let i = 0; i < PROBES; i++) {
      const bit = (at >>> 0) % bits;
      filter[bit >>> 3]! |= 1 << (bit & 7);
      at = (at + step) | 0;
    }
  }
  return filter;
}

/** False: the key is certainly not in the layer. An empty filter says maybe. */
export function filterMayContain(filter: Uint8Array, key: Key): boolean {
  if (filter.length === 0) return true;
  const bits = filter.length * 8;
  const hash = keyHash(key);
  const step = mix(hash ^ 0x7f4a7c15) | 1;
  let at = hash;
  for (let i = 0; i < PROBES; i++) {
    const bit = (at >>> 0) % bits;
    if ((filter[bit >>> 3]! & (1 << (bit & 7))) === 0) return false;
    at = (at + step) | 0;
  }
  return true;
}
