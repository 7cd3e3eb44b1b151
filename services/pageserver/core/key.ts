/**
 * Keys of the versioned store: 18 bytes `field1 u8 | field2 u32 | field3 u32 | field4 u32 | field5 u8 | field6 u32`, big-endian,
 * ordered bytewise. What the fields mean is keyspace.ts' business.
 *
 * In memory a key is one exact number, `prefixId * 2^32 + field6`: fields 1 to 5 are interned to a small integer once, so that
 * maps over blocks have number keys and the hot path builds no strings. Files hold the 18 bytes. Order among numbers means
 * nothing across prefixes: sort with `compareKeys`.
 */
import { StorageError } from '#shared/core/errors.js';

declare const keyBrand: unique symbol;
export type Key = number & { readonly [keyBrand]: true };

export interface KeyFields {
  readonly field1: number;
  readonly field2: number;
  readonly field3: number;
  readonly field4: number;
  readonly field5: number;
  readonly field6: number;
}

export const KEY_BYTES = 18;
export const KEY_PREFIX_BYTES = 14;
const BLOCK_SPAN = 0x1_0000_0000;
/** prefixId * 2^32 + block must stay exact: 2^21 prefixes. */
const PREFIX_COUNT_MAX = 1 << 21;

const idByText = new Map<string, number>();
const prefixes: Uint8Array[] = [];

/** Interns fields 1 to 5. Process-wide: one entry a relation fork ever seen, about 150 bytes. */
export function internPrefix(field1: number, field2: number, field3: number, field4: number, field5: number): number {
  const text = `${field1}.${field2}.${field3}.${field4}.${field5}`;
  const known = idByText.get(text);
  if (known !== undefined) return known;
  const id = prefixes.length;
  if (id >= PREFIX_COUNT_MAX)
    throw new StorageError('exhausted', `more than ${PREFIX_COUNT_MAX} relation forks in one process`);
  const bytes = new Uint8Array(KEY_PREFIX_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, field1);
  view.setUint32(1, field2);
  view.setUint32(5, field3);
  view.setUint32(9, field4);
  view.setUint8(13, field5);
  prefixes.push(bytes);
  idByText.set(text, id);
  return id;
}

export function makeKey(prefixId: number, field6: number): Key {
  return (prefixId * BLOCK_SPAN + field6) as Key;
}

export function keyOf(fields: KeyFields): Key {
  return makeKey(
    internPrefix(fields.field1, fields.field2, fields.field3, fields.field4, fields.field5),
    fields.field6,
  );
}

export function keyPrefixId(key: Key): number {
  return Math.floor(key / BLOCK_SPAN);
}

/** field6: the block number of page keys. */
export function keyBlock(key: Key): number {
  return key >>> 0;
}

/** The 14 bytes of fields 1 to 5; shared memory, do not write to it. */
export function prefixBytes(prefixId: number): Uint8Array {
  const bytes = prefixes[prefixId];
  if (bytes === undefined) throw new StorageError('internal', `unknown key prefix ${prefixId}`);
  return bytes;
}

export function keyFields(key: Key): KeyFields {
  const bytes = prefixBytes(keyPrefixId(key));
  const view = new DataView(bytes.buffer);
  return {
    field1: view.getUint8(0),
    field2: view.getUint32(1),
    field3: view.getUint32(5),
    field4: view.getUint32(9),
    field5: view.getUint8(13),
    field6: keyBlock(key),
  };
}

export function writeKey(key: Key, out: Uint8Array, offset: number): void {
  out.set(prefixBytes(keyPrefixId(key)), offset);
  const block = keyBlock(key);
  out[offset + 14] = block >>> 24;
  out[offset + 15] = block >>> 16;
  out[offset + 16] = block >>> 8;
  out[offset + 17] = block;
}

export function readKey(bytes: Uint8Array, offset: number): Key {
  if (offset + KEY_BYTES > bytes.length) throw new StorageError('corrupt', 'a key is cut off');
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, KEY_BYTES);
  const prefixId = internPrefix(
    view.getUint8(0),
    view.getUint32(1),
    view.getUint32(5),
    view.getUint32(9),
    view.getUint8(13),
  );
  return makeKey(prefixId, view.getUint32(14));
}

function comparePrefixes(a: number, b: number): number {
  return a === b ? 0 : Buffer.compare(prefixBytes(a), prefixBytes(b));
}

/** Order of the 18 bytes. */
export function compareKeys(a: Key, b: Key): number {
  const byPrefix = comparePrefixes(keyPrefixId(a), keyPrefixId(b));
  return byPrefix !== 0 ? byPrefix : keyBlock(a) - keyBlock(b);
}

/** 36 hex digits, as in layer file names. */
export function formatKey(key: Key): string {
  const out = new Uint8Array(KEY_BYTES);
  writeKey(key, out, 0);
  return Buffer.from(out).toString('hex').toUpperCase();
}
