/**
 * What a layer covers, and its file name:
 *   delta  <first key>-<end key>__<first LSN>-<end LSN>-<generation>     all versions in the two half-open ranges
 *   image  <first key>-<end key>__<LSN>-<generation>                     the value of every key of the range at that LSN
 * Keys have 36 hex digits, LSNs 16, the generation of the server that wrote it 8. Object names are the same. A delta over all keys is an
 * L0 layer (a flushed in-memory layer).
 */
import { StorageError } from '#shared/core/errors.js';
import { lsn, lsnFromHex, lsnToHex } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { compareKeys, formatKey, keyOf, KEY_BYTES, readKey, writeKey } from '../key.js';

export const MIN_KEY = keyOf({ field1: 0, field2: 0, field3: 0, field4: 0, field5: 0, field6: 0 });
export const MAX_KEY = keyOf({
  field1: 0xff,
  field2: 0xffff_ffff,
  field3: 0xffff_ffff,
  field4: 0xffff_ffff,
  field5: 0xff,
  field6: 0xffff_ffff,
});

export interface LayerSpan {
  readonly kind: 'delta' | 'image';
  readonly keyStart: Key;
  /** Exclusive. */
  readonly keyEnd: Key;
  readonly lsnStart: Lsn;
  /** Exclusive; lsnStart + 1 for an image. */
  readonly lsnEnd: Lsn;
}

export function isL0(span: LayerSpan): boolean {
  return span.kind === 'delta' && span.keyStart === MIN_KEY && span.keyEnd === MAX_KEY;
}

export function layerFileName(span: LayerSpan, generation: number): string {
  const keys = `${formatKey(span.keyStart)}-${formatKey(span.keyEnd)}`;
  const lsns = span.kind === 'image' ? lsnToHex(span.lsnStart) : `${lsnToHex(span.lsnStart)}-${lsnToHex(span.lsnEnd)}`;
  return `${keys}__${lsns}-${formatGeneration(generation)}`;
}

const NAME = /^([0-9A-F]{36})-([0-9A-F]{36})__([0-9A-F]{16})(?:-([0-9A-F]{16}))?-([0-9a-f]{8})$/;

/** Throws StorageError `corrupt` for a name that is not one. */
export function parseLayerFileName(name: string): { span: LayerSpan; generation: number } {
  const match = NAME.exec(name);
  if (match === null) throw new StorageError('corrupt', `"${name}" is not a layer name`);
  const keyStart = readKey(Buffer.from(match[1]!, 'hex'), 0);
  const keyEnd = readKey(Buffer.from(match[2]!, 'hex'), 0);
  const lsnStart = lsnFromHex(match[3]!);
  const isImage = match[4] === undefined;
  const lsnEnd = isImage ? lsn(lsnStart + 1) : lsnFromHex(match[4]!);
  if (compareKeys(keyStart, keyEnd) >= 0 || lsnStart >= lsnEnd) {
    throw new StorageError('corrupt', `layer name "${name}" has an empty range`);
  }
  const kind = isImage ? 'image' : 'delta';
  return { span: { kind, keyStart, keyEnd, lsnStart, lsnEnd }, generation: parseInt(match[5]!, 16) };
}

export function formatGeneration(generation: number): string {
  if (!Number.isInteger(generation) || generation < 0 || generation > 0xffff_ffff) {
    throw new StorageError('invalid', `${generation} is not a generation number`);
  }
  return generation.toString(16).padStart(8, '0');
}

/** The next key in byte order; MAX_KEY stays. */
export function keyAfter(key: Key): Key {
  if (key === MAX_KEY) return MAX_KEY;
  const bytes = new Uint8Array(KEY_BYTES);
  writeKey(key, bytes, 0);
  for (let i = KEY_BYTES - 1; i >= 0; i--) {
    bytes[i]!++;
    if (bytes[i] !== 0) break;
  }
  return readKey(bytes, 0);
}
