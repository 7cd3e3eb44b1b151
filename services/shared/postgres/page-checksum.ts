/**
 * The checksum of data pages (clusters with data_checksum_version 1): 32 FNV-1a-like sums over the page taken as 64 rows of 32
 * words, two rounds of zeros, xor of the sums, xor of the block number, folded to 1..65535. The checksum field itself counts as 0.
 */
import { PAGE_BYTES, PD_CHECKSUM } from './page-layout.js';

const LANES = 32;
const PRIME = 16777619;
const seeds = Uint32Array.of(
  0x5b1f36e9,
  0xb8525960,
  0x02ab50aa,
  0x1de66d2a,
  0x79ff467a,
  0x9bb9f8a3,
  0x217e7cd2,
  0x83e13d2c,
  0xf8d4474f,
  0xe39eb970,
  0x42c6ae16,
  0x993216fa,
  0x7b093b5d,
  0x98daff3c,
  0xf718902a,
  0x0b1c9cdb,
  0xe58f764b,
  0x187636bc,
  0x5d7b3bb1,
  0xe73de7de,
  0x92bec979,
  0xcca6c0b2,
  0x304a0979,
  0x85aa43d4,
  0x783125bb,
  0x6ca8eaa2,
  0xe407eac6,
  0x4b5cfc3e,
  0x9fbf8c76,
  0x15ca20be,
  0xf2ca9fd3,
  0x959bd756,
);
const sums = new Uint32Array(LANES);

/** `page` has 8192 bytes; `blockNumber` counts from the start of the relation's fork. */
export function pageChecksum(page: Uint8Array, blockNumber: number): number {
  const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  sums.set(seeds);
  for (let at = 0; at < PAGE_BYTES; at += LANES * 4) {
    for (let lane = 0; lane < LANES; lane++) {
      let word = view.getUint32(at + lane * 4, true);
      if (at + lane * 4 === PD_CHECKSUM) word &= 0xffff0000;
      mix(lane, word);
    }
  }
  let result = 0;
  for (let lane = 0; lane < LANES; lane++) {
    mix(lane, 0);
    mix(lane, 0);
    result ^= sums[lane]!;
  }
  return (((result ^ blockNumber) >>> 0) % 65535) + 1;
}

function mix(lane: number, word: number): void {
  const mixed = sums[lane]! ^ word;
  sums[lane] = Math.imul(mixed, PRIME) ^ (mixed >>> 17);
}
