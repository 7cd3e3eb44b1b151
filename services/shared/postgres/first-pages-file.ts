/** The file with which a compute's server answers its first reads itself: extension/first-pages.c of compute_ctl draws it. */
import type { Lsn } from '../core/lsn.js';
import { crc32cUpdate } from './crc32c.js';

const MAGIC = 0x4e465031;
const FORMAT = 1;
const BLOCK_BYTES = 8192;
const HEADER_BYTES = 32;
const PLACE_BYTES = 20;

/** Tablespace, database, relation, fork, and a length or block number. */
type Place = readonly [number, number, number, number, number];

/** A fork of a relation: tablespace, database, relfilenode, fork number. */
interface RelTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

export interface ForkLength {
  readonly rel: RelTag;
  readonly blocks: number;
}

export interface PageImage {
  readonly rel: RelTag;
  readonly block: number;
  /** 8192 bytes. */
  readonly image: Uint8Array;
}

/** The file in pieces, which may be the images themselves; none when there is nothing to say. No fork and no block may be there twice. */
export function firstPagesFile(asOf: Lsn, lengths: readonly ForkLength[], images: readonly PageImage[]): Uint8Array[] {
  if (lengths.length + images.length === 0) return [];
  const lengthPlaces = lengths.map(({ rel, blocks }) => placeOf(rel, blocks)).sort(byPlace);
  const pages = images
    .map(({ rel, block, image }) => ({ place: placeOf(rel, block), image }))
    .sort((a, b) => byPlace(a.place, b.place));
  const places = [...lengthPlaces, ...pages.map(({ place }) => place)];
  const headBytes = Math.ceil((HEADER_BYTES + places.length * PLACE_BYTES) / BLOCK_BYTES) * BLOCK_BYTES;
  const head = new Uint8Array(headBytes);
  const view = new DataView(head.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, FORMAT, true);
  view.setBigUint64(8, BigInt(asOf), true);
  view.setUint32(16, lengths.length, true);
  view.setUint32(20, pages.length, true);
  places.forEach((place, i) => {
    place.forEach((value, n) => view.setUint32(HEADER_BYTES + i * PLACE_BYTES + n * 4, value, true));
  });
  let crcState = crc32cUpdate(0xffff_ffff, head, HEADER_BYTES, headBytes);
  for (const { image } of pages) crcState = crc32cUpdate(crcState, image, 0, BLOCK_BYTES);
  view.setUint32(24, ~crcState >>> 0, true);
  return [head, ...pages.map(({ image }) => image)];
}

function placeOf({ spc, db, rel, fork }: RelTag, number: number): Place {
  return [spc, db, rel, fork, number];
}

function byPlace(a: Place, b: Place): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}
