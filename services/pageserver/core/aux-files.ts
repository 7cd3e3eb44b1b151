/**
 * Auxiliary files: small files of a data directory that WAL does not describe (logical replication slots with their snapshots and
 * mappings, statistics), and the progress of replication origins. Owns which paths are taken and how values look.
 *
 * A compute sends a file as a logical message with prefix "neon-file:<path>", not transactional and of no database, so that no SQL
 * statement can make one; an empty message deletes the file.
 *
 * Value of an auxiliary file key, little endian: u8 version 1, u64 LSN at which it was put, then per file u32 length and bytes of the
 * path, u32 length and bytes of the content. Paths with the same hash share a key.
 *
 * Value of an origin key: u64 position in the origin's WAL up to which its changes are here, u64 LSN at which it was put.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { readLsn } from '#shared/postgres/wal-layout.js';

export const AUX_PREFIX = 'neon-file:';
export const STATISTICS_PATH = 'pg_stat/pgstat.stat';
/** A bound for what one key may cost in memory; statistics of 100,000 tables take a third of it. */
export const AUX_CONTENT_BYTES_MAX = 64 * 1024 * 1024;

const VERSION = 1;
const HEADER_BYTES = 9;
const ORIGIN_BYTES = 16;
const PATH_CHARS_MAX = 200;
const NAME = '[A-Za-z0-9_-][A-Za-z0-9_.-]*';
const PATHS = new RegExp(
  `^(?:pg_replslot/${NAME}/${NAME}|pg_logical/(?:(?:snapshots|mappings)/)?${NAME}|pg_stat/${NAME})$`,
);
/** Made anew for each compute. */
const OWN_PATHS = /^pg_replslot\/walproposer\/|^pg_logical\/replorigin_checkpoint$/;

export interface AuxFile {
  readonly path: string;
  readonly content: Uint8Array;
}

export interface AuxFiles {
  readonly putLsn: Lsn;
  readonly files: readonly AuxFile[];
}

export interface Origin {
  readonly remoteLsn: Lsn;
  readonly putLsn: Lsn;
}

export function isAuxPath(path: string): boolean {
  return path.length <= PATH_CHARS_MAX && PATHS.test(path) && !OWN_PATHS.test(path);
}

/** FNV-1a, 32 bits. */
export function auxPathHash(path: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of Buffer.from(path, 'utf8')) hash = Math.imul(hash ^ byte, 0x0100_0193) >>> 0;
  return hash;
}

export function encodeAuxFiles(putLsn: Lsn, files: readonly AuxFile[]): Uint8Array {
  const parts: Uint8Array[] = [header(putLsn)];
  for (const { path, content } of files) parts.push(...sized(Buffer.from(path, 'utf8')), ...sized(content));
  return Buffer.concat(parts);
}

/** Contents are views of `value`. Throws StorageError `corrupt`. */
export function decodeAuxFiles(value: Uint8Array): AuxFiles {
  if (value.length < HEADER_BYTES || value[0] !== VERSION) throw corrupt(value);
  const view = viewOf(value);
  let at = HEADER_BYTES;
  const next = (): Uint8Array => {
    if (at + 4 > value.length) throw corrupt(value);
    const start = at + 4;
    at = start + view.getUint32(at, true);
    if (at > value.length) throw corrupt(value);
    return value.subarray(start, at);
  };
  const files: AuxFile[] = [];
  while (at < value.length) files.push({ path: Buffer.from(next()).toString('utf8'), content: next() });
  return { putLsn: readLsn(view, 1), files };
}

export function encodeOrigin({ remoteLsn, putLsn }: Origin): Uint8Array {
  const value = new Uint8Array(ORIGIN_BYTES);
  const view = viewOf(value);
  view.setBigUint64(0, BigInt(remoteLsn), true);
  view.setBigUint64(8, BigInt(putLsn), true);
  return value;
}

/** Throws StorageError `corrupt`. */
export function decodeOrigin(value: Uint8Array): Origin {
  if (value.length !== ORIGIN_BYTES) throw corrupt(value);
  const view = viewOf(value);
  return { remoteLsn: readLsn(view, 0), putLsn: readLsn(view, 8) };
}

/** Whether a value put at `putLsn` is the timeline's own. What a branch inherits belongs to other servers: their slots, their progress. */
export function isOwn(putLsn: Lsn, ancestor: { readonly lsn: Lsn } | null): boolean {
  return ancestor === null || putLsn > ancestor.lsn;
}

function header(putLsn: Lsn): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes[0] = VERSION;
  viewOf(bytes).setBigUint64(1, BigInt(putLsn), true);
  return bytes;
}

function sized(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  const length = new Uint8Array(4);
  viewOf(length).setUint32(0, bytes.length, true);
  return [length, bytes];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function corrupt(value: Uint8Array): StorageError {
  return new StorageError('corrupt', `auxiliary value of ${value.length} bytes is damaged`);
}
