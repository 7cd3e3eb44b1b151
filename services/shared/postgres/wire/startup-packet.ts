/**
 * Body of the packets that open a connection (after the length word).
 *
 *   code u32 = 80877103 SSLRequest | 80877104 GSSENCRequest | 80877102 CancelRequest (pid u32, key)
 *            | 0x0003_xxxx start-up: { name cstr, value cstr }*, 0
 */
import { StorageError } from '#shared/core/errors.js';

const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
const PROTOCOL_MAJOR = 3;

export type StartupPacket =
  | { readonly kind: 'ssl' }
  | { readonly kind: 'gssenc' }
  | { readonly kind: 'cancel' }
  | { readonly kind: 'startup'; readonly minorVersion: number; readonly parameters: ReadonlyMap<string, string> };

/** Throws StorageError `invalid` for anything but the four packets above. */
export function parseStartupPacket(buffer: Buffer, start: number, end: number): StartupPacket {
  const code = buffer.readUInt32BE(start);
  if (code === SSL_REQUEST) return { kind: 'ssl' };
  if (code === GSSENC_REQUEST) return { kind: 'gssenc' };
  if (code === CANCEL_REQUEST) return { kind: 'cancel' };
  const major = code >>> 16;
  if (major !== PROTOCOL_MAJOR) {
    throw new StorageError(
      'invalid',
      `unsupported frontend protocol ${major}.${code & 0xffff}; only 3.x is spoken here`,
    );
  }
  return { kind: 'startup', minorVersion: code & 0xffff, parameters: parseParameters(buffer, start + 4, end) };
}

function parseParameters(buffer: Buffer, start: number, end: number): Map<string, string> {
  const parameters = new Map<string, string>();
  for (let at = start; ;) {
    const name = readCString(buffer, at, end);
    at += Buffer.byteLength(name) + 1;
    if (name === '') {
      if (at !== end) throw new StorageError('invalid', 'bytes follow the end of the start-up packet');
      return parameters;
    }
    const value = readCString(buffer, at, end);
    at += Buffer.byteLength(value) + 1;
    parameters.set(name, value);
  }
}

/** The text up to the next zero byte below `end`. Throws StorageError `invalid` when there is none or it is not UTF-8. */
export function readCString(buffer: Buffer, start: number, end: number): string {
  const stop = buffer.indexOf(0, start);
  if (stop < 0 || stop >= end) throw new StorageError('invalid', 'a text of the message has no end');
  const text = buffer.toString('utf8', start, stop);
  if (Buffer.byteLength(text) !== stop - start) throw new StorageError('invalid', 'a text of the message is not UTF-8');
  return text;
}
