/**
 * What the keys of the versioned store mean (key.ts owns their bytes). Fields 2 to 5 not named below are 0.
 *
 *   kind                f1  f2    f3  f4        f5    f6              value
 *   relation block      00  spc   db  rel       fork  block           page
 *   SLRU block          01  kind  1   segment   0     block in it     page
 *   relation size       60  spc   db  rel       fork  0               u32 LE blocks; tombstone = dropped
 *   database            61  spc   db  0         0     0               relation map file, 512 bytes; empty = a directory without one
 *   SLRU segment size   62  kind  0   segment   0     0               u32 LE pages; tombstone = truncated away
 *   two-phase file      63  0     0   xid high  0     xid low         main data of the PREPARE record; tombstone = finished
 *   control file        64  0     0   0         0     0               pg_control of the initdb image, 8192 bytes
 *   checkpoint tracker  64  0     0   0         0     1               encodeTrackerState()
 *   next xid            64  0     0   0         0     2               u64 LE, newer than the tracker's own
 *   auxiliary files     65  0     0   0         0     hash        encodeAuxFiles(): those whose path has this hash
 *   replication origin  66  0     0   0         0     id          encodeOrigin(): its progress
 *
 * Keys below 0x60 are pages, the others metadata. A block at or past the relation's size, and any block of a relation without a size,
 * is not part of the relation, whatever versions it has. Auxiliary files and origins that a branch finds from before its branch point
 * are its ancestor's and not its own: their values say at which LSN they were put.
 */
import { StorageError } from '#shared/core/errors.js';
import { internPrefix, type Key, keyBlock, keyFields, keyOf, keyPrefixId, makeKey, prefixBytes } from './key.js';

export const BLOCK_BYTES = 8192;

export const FIELD_RELATION_BLOCK = 0x00;
export const FIELD_SLRU_BLOCK = 0x01;
export const FIELD_RELATION_SIZE = 0x60;
export const FIELD_DATABASE = 0x61;
export const FIELD_SLRU_SIZE = 0x62;
const FIELD_TWO_PHASE = 0x63;
export const FIELD_CHECKPOINT = 0x64;
const FIELD_AUX_FILE = 0x65;
const FIELD_ORIGIN = 0x66;

export const FORK_MAIN = 0;
export const FORK_FSM = 1;
export const FORK_VM = 2;
export const FORK_INIT = 3;
export const FORK_COUNT = 4;

export const DEFAULT_TABLESPACE = 1663;
export const GLOBAL_TABLESPACE = 1664;

/** Numbers are part of keys. */
export const SLRU_CLOG = 0;
export const SLRU_MULTIXACT_MEMBERS = 1;
export const SLRU_MULTIXACT_OFFSETS = 2;
export const SLRU_COMMIT_TS = 3;
export type SlruKind =
  typeof SLRU_CLOG | typeof SLRU_MULTIXACT_MEMBERS | typeof SLRU_MULTIXACT_OFFSETS | typeof SLRU_COMMIT_TS;
export const SLRU_KINDS: readonly SlruKind[] = [
  SLRU_CLOG,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_COMMIT_TS,
];

/** Directory of each kind in a data directory, by kind. */
export const SLRU_DIRECTORIES: readonly string[] = [
  'pg_xact',
  'pg_multixact/members',
  'pg_multixact/offsets',
  'pg_commit_ts',
];

export interface RelTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

export interface DatabaseTag {
  readonly spc: number;
  readonly db: number;
}

export interface SlruSegment {
  readonly kind: SlruKind;
  readonly segno: number;
}

export interface KeyRange {
  readonly start: Key;
  /** Exclusive. */
  readonly end: Key;
}

/** makeKey(relationBlocks(…), block) is the key of a block: the hot path keeps the prefix. */
export function relationBlocks(spc: number, db: number, rel: number, fork: number): number {
  return internPrefix(FIELD_RELATION_BLOCK, spc, db, rel, fork);
}

export function relationBlockKey(rel: RelTag, block: number): Key {
  return makeKey(relationBlocks(rel.spc, rel.db, rel.rel, rel.fork), block);
}

export function relationSizeKey(rel: RelTag): Key {
  return makeKey(internPrefix(FIELD_RELATION_SIZE, rel.spc, rel.db, rel.rel, rel.fork), 0);
}

export function databaseKey(database: DatabaseTag): Key {
  return makeKey(internPrefix(FIELD_DATABASE, database.spc, database.db, 0, 0), 0);
}

export function slruBlocks(kind: SlruKind, segno: number): number {
  return internPrefix(FIELD_SLRU_BLOCK, kind, 1, segno, 0);
}

export function slruSizeKey(kind: SlruKind, segno: number): Key {
  return makeKey(internPrefix(FIELD_SLRU_SIZE, kind, 0, segno, 0), 0);
}

export function twoPhaseKey(xid: number): Key {
  return makeKey(internPrefix(FIELD_TWO_PHASE, 0, 0, 0, 0), xid);
}

/** `hash`: auxPathHash(path). */
export function auxFileKey(hash: number): Key {
  return makeKey(internPrefix(FIELD_AUX_FILE, 0, 0, 0, 0), hash);
}

export function originKey(id: number): Key {
  return makeKey(internPrefix(FIELD_ORIGIN, 0, 0, 0, 0), id);
}

export const CONTROL_FILE_KEY: Key = makeKey(internPrefix(FIELD_CHECKPOINT, 0, 0, 0, 0), 0);
export const TRACKER_KEY: Key = makeKey(internPrefix(FIELD_CHECKPOINT, 0, 0, 0, 0), 1);
export const NEXT_XID_KEY: Key = makeKey(internPrefix(FIELD_CHECKPOINT, 0, 0, 0, 0), 2);

function wholeField(field1: number): KeyRange {
  return {
    start: keyOf({ field1, field2: 0, field3: 0, field4: 0, field5: 0, field6: 0 }),
    end: keyOf({ field1: field1 + 1, field2: 0, field3: 0, field4: 0, field5: 0, field6: 0 }),
  };
}

export const RELATION_SIZE_RANGE = wholeField(FIELD_RELATION_SIZE);
export const DATABASE_RANGE = wholeField(FIELD_DATABASE);
export const TWO_PHASE_RANGE = wholeField(FIELD_TWO_PHASE);
export const SLRU_SIZE_RANGE = wholeField(FIELD_SLRU_SIZE);
export const AUX_FILE_RANGE = wholeField(FIELD_AUX_FILE);
export const ORIGIN_RANGE = wholeField(FIELD_ORIGIN);

/** Keys from here on are metadata. */
export const METADATA_START = RELATION_SIZE_RANGE.start;
export const METADATA_RANGE: KeyRange = { start: METADATA_START, end: ORIGIN_RANGE.end };

/** Size keys of all relations and forks of one database in one tablespace. */
export function relationSizeRange(database: DatabaseTag): KeyRange {
  const start = { field1: FIELD_RELATION_SIZE, field2: database.spc, field4: 0, field5: 0, field6: 0 };
  const last = database.db === 0xffff_ffff;
  return {
    start: keyOf({ ...start, field3: database.db }),
    end: keyOf({ ...start, field2: database.spc + (last ? 1 : 0), field3: last ? 0 : database.db + 1 }),
  };
}

export function slruSizeRange(kind: SlruKind): KeyRange {
  const fields = { field1: FIELD_SLRU_SIZE, field3: 0, field4: 0, field5: 0, field6: 0 };
  return { start: keyOf({ ...fields, field2: kind }), end: keyOf({ ...fields, field2: kind + 1 }) };
}

/** Whether the store treats it as a page: kept as images and records, read by getPage. */
export function isPageKey(key: Key): boolean {
  return prefixBytes(keyPrefixId(key))[0]! < FIELD_RELATION_SIZE;
}

export function parseRelationSizeKey(key: Key): RelTag {
  const fields = keyFields(key);
  expectField(key, fields.field1, FIELD_RELATION_SIZE);
  return { spc: fields.field2, db: fields.field3, rel: fields.field4, fork: fields.field5 };
}

export function parseDatabaseKey(key: Key): DatabaseTag {
  const fields = keyFields(key);
  expectField(key, fields.field1, FIELD_DATABASE);
  return { spc: fields.field2, db: fields.field3 };
}

export function parseSlruSizeKey(key: Key): SlruSegment {
  const fields = keyFields(key);
  expectField(key, fields.field1, FIELD_SLRU_SIZE);
  return { kind: checkSlruKind(fields.field2), segno: fields.field4 };
}

/** The transaction id. */
export function parseTwoPhaseKey(key: Key): number {
  expectField(key, keyFields(key).field1, FIELD_TWO_PHASE);
  return keyBlock(key);
}

export type PageIdentity =
  | { readonly kind: 'relation'; readonly rel: RelTag; readonly block: number }
  | { readonly kind: 'slru'; readonly slru: SlruSegment; readonly block: number };

/** What page a key names; null for metadata keys. For messages and for tools. */
export function parsePageKey(key: Key): PageIdentity | null {
  const fields = keyFields(key);
  if (fields.field1 === FIELD_RELATION_BLOCK) {
    const rel = { spc: fields.field2, db: fields.field3, rel: fields.field4, fork: fields.field5 };
    return { kind: 'relation', rel, block: fields.field6 };
  }
  if (fields.field1 !== FIELD_SLRU_BLOCK) return null;
  return {
    kind: 'slru',
    slru: { kind: checkSlruKind(fields.field2), segno: fields.field4 },
    block: fields.field6,
  };
}

export function formatRel(rel: RelTag): string {
  const fork = ['', '_fsm', '_vm', '_init'][rel.fork] ?? `_fork${rel.fork}`;
  return `${rel.spc}/${rel.db}/${rel.rel}${fork}`;
}

export function encodeCount(count: number): Uint8Array {
  const bytes = new Uint8Array(4);
  bytes[0] = count;
  bytes[1] = count >>> 8;
  bytes[2] = count >>> 16;
  bytes[3] = count >>> 24;
  return bytes;
}

/** The value of a size key. Throws StorageError `corrupt`. */
export function decodeCount(bytes: Uint8Array): number {
  if (bytes.length !== 4) throw new StorageError('corrupt', `a size is stored in ${bytes.length} bytes, not 4`);
  return (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}

export function encodeNextXid(nextXid: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, nextXid, true);
  return bytes;
}

export function decodeNextXid(bytes: Uint8Array): bigint {
  if (bytes.length !== 8) throw new StorageError('corrupt', `next xid is stored in ${bytes.length} bytes, not 8`);
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

function checkSlruKind(kind: number): SlruKind {
  const known = SLRU_KINDS[kind];
  if (known !== undefined) return known;
  throw new StorageError('corrupt', `there is no SLRU of kind ${kind}`);
}

function expectField(key: Key, found: number, wanted: number): void {
  if (found === wanted) return;
  throw new StorageError('corrupt', `key ${key} has field 1 ${found}, not ${wanted}`);
}
