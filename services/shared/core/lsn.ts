/**
 * LSN: a byte offset in WAL, printed as two hex halves ("16/B374D848").
 *
 * A branded number, exact up to 2^53 (8 PiB of WAL). Never use `>>`, `|` or `~` on it: they cut to 32 bits. `& mask` with a
 * mask below 2^31 and `>>> 0` are exact for the low half; halves are taken by division. On the wire an LSN is a uint64 and
 * is converted once, at the edge, by `lsnFromWire` and `lsnToWire`.
 */
import { StorageError } from './errors.js';

declare const lsnBrand: unique symbol;
export type Lsn = number & { readonly [lsnBrand]: true };

export const INVALID_LSN = 0 as Lsn;
/** Largest LSN that a number holds exactly; stands for "latest" in requests. */
export const MAX_LSN = Number.MAX_SAFE_INTEGER as Lsn;

const HALF = 0x1_0000_0000;

/** Brands a number that is known to be a valid LSN. */
export function lsn(value: number): Lsn {
  return value as Lsn;
}

export function lsnMax(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

export function lsnMin(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

/** "X/X", upper-case hex without leading zeros, as Postgres prints it. */
export function formatLsn(value: Lsn): string {
  const high = Math.floor(value / HALF);
  return `${high.toString(16).toUpperCase()}/${(value >>> 0).toString(16).toUpperCase()}`;
}

/** Parses "X/X". Throws StorageError `invalid`. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text.trim());
  const value = match ? parseInt(match[1] ?? '', 16) * HALF + parseInt(match[2] ?? '', 16) : NaN;
  if (!Number.isSafeInteger(value)) {
    throw new StorageError('invalid', `"${text}" is not an LSN; write it as two hex numbers, such as 0/1A2B3C8`);
  }
  return value as Lsn;
}

/** From a uint64 of a message. All-ones ("latest" on the page service) becomes MAX_LSN; else above 2^53 is `invalid`. */
export function lsnFromWire(value: bigint): Lsn {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value) as Lsn;
  if (value === 0xffff_ffff_ffff_ffffn) return MAX_LSN;
  throw new StorageError('invalid', `LSN ${value} is out of range`);
}

export function lsnToWire(value: Lsn): bigint {
  return BigInt(value);
}

/** Rounds up to a multiple of 8: records begin at MAXALIGN boundaries. */
export function alignLsn(value: Lsn): Lsn {
  return (Math.ceil(value / 8) * 8) as Lsn;
}

/** 16 upper-case hex digits, sortable; used in object and file names. */
export function lsnToHex(value: Lsn): string {
  return value.toString(16).toUpperCase().padStart(16, '0');
}

export function lsnFromHex(text: string): Lsn {
  const value = /^[0-9A-F]{16}$/.test(text) ? parseInt(text, 16) : NaN;
  if (!Number.isSafeInteger(value)) throw new StorageError('invalid', `"${text}" is not a 16-digit LSN`);
  return value as Lsn;
}
