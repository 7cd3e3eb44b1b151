/**
 * Pages of hash indexes.
 *
 *   special area, 16 bytes      0 u32 previous page (of a primary bucket page: highest bucket when it was last looked at)
 *                               4 u32 next page   8 u32 bucket   12 u16 flags and page type   14 u16 0xff80
 *   bitmap page, behind header  one bit an overflow page, set when in use
 *   meta page, behind header    0 u32 magic   4 u32 version   8 f64 tuples   16 u16 fill factor   18 u16 room for a bitmap
 *                               20 u16 bytes of a bitmap   22 u16 log2 of its bits   24 u32 highest bucket   28 u32 high mask
 *                               32 u32 low mask   36 u32 splitpoint   40 u32 first free overflow page   44 u32 bitmap pages
 *                               48 u32 hash function   52 u32[98] spare pages   444 u32[1024] blocks of bitmap pages
 */
import { PAGE_HEADER_BYTES, PD_LOWER, PD_SPECIAL } from '#shared/postgres/page-layout.js';
import {
  load16,
  load32,
  memory,
  PAGE,
  PAGE_BYTES,
  peek32,
  peekFloat64,
  pokeFloat64,
  store16,
  store32,
} from './arena.js';
import { corruptPage, initPage } from './page.js';

const NO_PAGE = 0xffff_ffff;
const NO_BUCKET = 0xffff_ffff;

export const LH_UNUSED_PAGE = 0x0000;
export const LH_OVERFLOW_PAGE = 0x0001;
const LH_BITMAP_PAGE = 0x0004;
const LH_META_PAGE = 0x0008;
export const LH_NEEDS_SPLIT_CLEANUP = 0x0040;
export const LH_HAS_DEAD_TUPLES = 0x0080;

const SPECIAL_BYTES = 16;
const PREVIOUS = 0;
const NEXT = 4;
const BUCKET = 8;
const FLAGS = 12;
const PAGE_ID = 0xff80;

const META = PAGE + PAGE_HEADER_BYTES;
const TUPLES = META + 8;
const MAX_BUCKET = META + 24;
const HIGH_MASK = META + 28;
const LOW_MASK = META + 32;
const SPLITPOINT = META + 36;
const FIRST_FREE = META + 40;
const BITMAP_PAGES = META + 44;
const SPARES = META + 52;
const SPARES_MAX = 98;
const BITMAPS = META + 444;
const BITMAPS_MAX = 1024;
const META_BYTES = 4544;
const MAGIC = 0x0644_0640;
const VERSION = 4;
/** The largest power of two that fits behind the header. */
const BITMAP_BYTES = 4096;
const BITMAP_SHIFT = 15;

/** Splitpoint groups from this one on are allocated in four phases. */
const ONE_PHASE_GROUPS = 10;
const BUCKETS_MAX = 0x4000_0000;

function special(): number {
  const offset = load16(PAGE + PD_SPECIAL);
  if (offset !== PAGE_BYTES - SPECIAL_BYTES) throw corruptPage(`not a hash index page: special area at ${offset}`);
  return PAGE + offset;
}

export function initHashPage(previous: number, bucket: number, flags: number): void {
  initPage(PAGE, SPECIAL_BYTES);
  const at = special();
  store32(at + PREVIOUS, previous);
  store32(at + NEXT, NO_PAGE);
  store32(at + BUCKET, bucket);
  store16(at + FLAGS, flags);
  store16(at + FLAGS + 2, PAGE_ID);
}

export function initUnusedPage(): void {
  initHashPage(NO_PAGE, NO_BUCKET, LH_UNUSED_PAGE);
}

/** All bits set: pages become free one by one. */
export function initBitmapPage(bytes: number): void {
  initHashPage(NO_PAGE, NO_BUCKET, LH_BITMAP_PAGE);
  if (bytes > PAGE_BYTES - PAGE_HEADER_BYTES - SPECIAL_BYTES)
    throw corruptPage(`a bitmap of ${bytes} bytes does not fit`);
  memory.fill(0xff, META, META + bytes);
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + bytes);
}

export function setPrevious(block: number): void {
  store32(special() + PREVIOUS, block);
}

export function setNext(block: number): void {
  store32(special() + NEXT, block);
}

export function setFlags(flags: number): void {
  store16(special() + FLAGS, flags);
}

export function clearFlags(flags: number): void {
  const at = special() + FLAGS;
  store16(at, load16(at) & ~flags);
}

export function changeBit(bit: number, set: boolean): void {
  const word = META + 4 * (bit >>> 5);
  if (word + 4 > special()) throw corruptPage(`bit ${bit} is not on a bitmap page`);
  const mask = 1 << (bit & 31);
  store32(word, set ? load32(word) | mask : load32(word) & ~mask);
}

function ceilLog2(value: number): number {
  return value <= 1 ? 0 : 32 - Math.clz32(value - 1);
}

/** Number of the splitpoint phase that bucket count `buckets` belongs to. */
function splitpointOf(buckets: number): number {
  const group = ceilLog2(buckets);
  if (group < ONE_PHASE_GROUPS) return group;
  return ONE_PHASE_GROUPS + (group - ONE_PHASE_GROUPS) * 4 + (((buckets - 1) >>> (group - 3)) & 3);
}

/** Buckets there are when phase `splitpoint` is complete. */
function bucketsAt(splitpoint: number): number {
  if (splitpoint < ONE_PHASE_GROUPS) return 1 << splitpoint;
  const phase = splitpoint - ONE_PHASE_GROUPS;
  const half = 2 ** (ONE_PHASE_GROUPS + (phase >>> 2) - 1);
  return half + (half / 4) * ((phase & 3) + 1);
}

/** A new index for an expected number of tuples. */
export function initMetaPage(expectedTuples: number, hashFunction: number, fillFactor: number): void {
  if (fillFactor === 0) throw corruptPage('a hash index with fill factor 0');
  const wanted = expectedTuples / fillFactor;
  const buckets = wanted <= 2 ? 2 : wanted >= BUCKETS_MAX ? BUCKETS_MAX : bucketsAt(splitpointOf(Math.floor(wanted)));
  const splitpoint = splitpointOf(buckets);
  initHashPage(NO_PAGE, NO_BUCKET, LH_META_PAGE);
  store32(META, MAGIC);
  store32(META + 4, VERSION);
  store16(META + 16, fillFactor);
  store16(META + 18, PAGE_BYTES - PAGE_HEADER_BYTES - SPECIAL_BYTES);
  store16(META + 20, BITMAP_BYTES);
  store16(META + 22, BITMAP_SHIFT);
  store32(MAX_BUCKET, buckets - 1);
  const highMask = 2 ** ceilLog2(buckets + 1) - 1;
  store32(HIGH_MASK, highMask);
  store32(LOW_MASK, highMask >>> 1);
  store32(SPLITPOINT, splitpoint);
  store32(META + 48, hashFunction);
  store32(SPARES + 4 * splitpoint, 1);
  store16(PAGE + PD_LOWER, PAGE_HEADER_BYTES + META_BYTES);
}

export function addTuples(count: number): void {
  pokeFloat64(TUPLES, peekFloat64(TUPLES) + count);
}

export function setTuples(count: number): void {
  pokeFloat64(TUPLES, count);
}

export function setFirstFree(bit: number): void {
  store32(FIRST_FREE, bit);
}

export function addBitmapPage(block: number): void {
  const count = load32(BITMAP_PAGES);
  if (count >= BITMAPS_MAX) throw corruptPage(`a hash index with ${count} bitmap pages`);
  store32(BITMAPS + 4 * count, block);
  store32(BITMAP_PAGES, count + 1);
}

/** The first bitmap page lies behind the first buckets. */
export function addFirstBitmapPage(): void {
  addBitmapPage(load32(MAX_BUCKET) + 2);
}

export function addSparePages(count: number): void {
  const splitpoint = load32(SPLITPOINT);
  if (splitpoint >= SPARES_MAX) throw corruptPage(`a hash index with splitpoint ${splitpoint}`);
  store32(SPARES + 4 * splitpoint, load32(SPARES + 4 * splitpoint) + count);
}

/** Data of a split, from `at` on: u32 low mask, u32 high mask if `masks`; u32 splitpoint, u32 its spare pages if `splits`. */
export function startBucket(bucket: number, at: number, masks: boolean, splits: boolean): void {
  store32(MAX_BUCKET, bucket);
  if (masks) {
    store32(LOW_MASK, peek32(at));
    store32(HIGH_MASK, peek32(at + 4));
  }
  if (!splits) return;
  const from = masks ? at + 8 : at;
  if (peek32(from) >= SPARES_MAX) throw corruptPage(`a hash index with splitpoint ${peek32(from)}`);
  store32(SPARES + 4 * peek32(from), peek32(from + 4));
  store32(SPLITPOINT, peek32(from));
}
