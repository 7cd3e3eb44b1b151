/**
 * global/pg_control of PostgreSQL 15: 8192 bytes, of which the first 296 are a struct (little endian), the rest zeros.
 *
 *   0 u64 system identifier   8 u32 layout version 1300   12 u32 catalog version   16 u32 state   24 i64 time (Unix seconds)
 *   32 u64 checkpoint record   40 CheckPoint (88 bytes)   128 u64 fake LSN of unlogged relations
 *   136 u64 minimum recovery point   144 u32 its timeline   152 u64 backup start   160 u64 backup end   168 u8 end required
 *   172 i32 wal_level   176 u8 wal_log_hints   180 i32 max_connections   184 i32 max_worker_processes   188 i32 max_wal_senders
 *   192 i32 max_prepared_transactions   196 i32 max_locks_per_transaction   200 u8 track_commit_timestamp
 *   204 u32 max alignment   208 f64 float probe   216 u32 block size   220 u32 blocks a segment file   224 u32 WAL page size
 *   228 u32 WAL segment size   232 u32 bytes of a name   236 u32 columns of an index   240 u32 TOAST chunk
 *   244 u32 large object chunk   248 u8 float8 by value   252 u32 data checksum version   256 nonce (32)
 *   288 u32 CRC-32C of [0, 288)
 */
import { StorageError } from '../core/errors.js';
import { type Lsn } from '../core/lsn.js';
import { type CheckPoint, decodeCheckPoint, encodeCheckPoint } from './checkpoint.js';
import { crc32c } from './crc32c.js';
import { checkSegmentSize, readLsn, XLOG_BLCKSZ } from './wal-layout.js';

export const CONTROL_FILE_BYTES = 8192;
export const CONTROL_VERSION_15 = 1300;
/** CATALOG_VERSION_NO of src/include/catalog/catversion.h, the same in all minor releases. */
export const CATALOG_VERSION_15 = 202209061;
export const DB_SHUTDOWNED = 1;
export const DB_IN_PRODUCTION = 6;

const AT = {
  systemId: 0,
  controlVersion: 8,
  catalogVersion: 12,
  state: 16,
  time: 24,
  checkPointLsn: 32,
  checkPoint: 40,
  unloggedLsn: 128,
  recoveryFields: 136,
  recoveryFieldsEnd: 172,
  walLevel: 172,
  walLogHints: 176,
  maxConnections: 180,
  maxWorkerProcesses: 184,
  maxWalSenders: 188,
  maxPreparedXacts: 192,
  maxLocksPerXact: 196,
  trackCommitTimestamp: 200,
  maxAlignment: 204,
  floatProbe: 208,
  blockSize: 216,
  relationSegmentBlocks: 220,
  walPageSize: 224,
  walSegmentSize: 228,
  nameBytes: 232,
  indexColumns: 236,
  toastChunkBytes: 240,
  largeObjectChunkBytes: 244,
  float8ByValue: 248,
  checksumVersion: 252,
  crc: 288,
  structEnd: 292,
} as const;

/** Where the counter of unlogged relations' fake LSNs begins; the server wants it again after a clean start. */
const FIRST_UNLOGGED_LSN = 1000n;
const BLOCK_BYTES = 8192;
const RELATION_SEGMENT_BLOCKS = 131072;

/** Settings that a standby or a restored server must match; WAL carries their changes. */
export interface ServerParameters {
  /** 0 minimal, 1 replica, 2 logical. */
  readonly walLevel: number;
  readonly walLogHints: boolean;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedXacts: number;
  readonly maxLocksPerXact: number;
  readonly trackCommitTimestamp: boolean;
}

export interface ControlFile {
  readonly systemId: bigint;
  readonly catalogVersion: number;
  /** DB_SHUTDOWNED, DB_IN_PRODUCTION, … */
  readonly state: number;
  readonly timeS: number;
  readonly checkPointLsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly params: ServerParameters;
  /** Of a standby: its files are one state once WAL was replayed up to here; else 0. */
  readonly minRecoveryLsn: Lsn;
  readonly segSize: number;
  /** 0: pages carry no checksums. */
  readonly checksumVersion: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Checks length, CRC, version and sizes. Throws `corrupt`, or `unimplemented` for another major version's file. */
export function decodeControlFile(bytes: Uint8Array): ControlFile {
  if (bytes.length < AT.structEnd) throw new StorageError('corrupt', `pg_control has only ${bytes.length} bytes`);
  const view = viewOf(bytes);
  const version = view.getUint32(AT.controlVersion, true);
  if (version !== CONTROL_VERSION_15) {
    throw new StorageError(
      'unimplemented',
      `pg_control has layout version ${version}; only PostgreSQL 15 (1300) is known`,
    );
  }
  if (view.getUint32(AT.crc, true) !== crc32c(bytes, 0, AT.crc)) {
    throw new StorageError('corrupt', 'pg_control fails its CRC');
  }
  const blockSize = view.getUint32(AT.blockSize, true);
  const walPageSize = view.getUint32(AT.walPageSize, true);
  const segmentBlocks = view.getUint32(AT.relationSegmentBlocks, true);
  if (blockSize !== BLOCK_BYTES || walPageSize !== XLOG_BLCKSZ || segmentBlocks !== RELATION_SEGMENT_BLOCKS) {
    const sizes = `${blockSize}, ${walPageSize}, ${segmentBlocks}`;
    throw new StorageError('unimplemented', `pg_control has unusual block, WAL page and file sizes: ${sizes}`);
  }
  const segSize = view.getUint32(AT.walSegmentSize, true);
  checkSegmentSize(segSize);
  return {
    systemId: view.getBigUint64(AT.systemId, true),
    catalogVersion: view.getUint32(AT.catalogVersion, true),
    state: view.getUint32(AT.state, true),
    timeS: Number(view.getBigInt64(AT.time, true)),
    checkPointLsn: readLsn(view, AT.checkPointLsn),
    checkPoint: decodeCheckPoint(bytes, AT.checkPoint),
    params: readParameters(view),
    minRecoveryLsn: readLsn(view, AT.recoveryFields),
    segSize,
    checksumVersion: view.getUint32(AT.checksumVersion, true),
  };
}

/**
 * The pg_control of a cleanly stopped cluster whose last record is the shutdown checkpoint at `checkPointLsn`. What is not named
 * is taken from `template` (initdb's file), which is checked. `checksumVersion` 0 makes a server accept pages without checksums.
 */
export function shutdownControlFile(
  template: Uint8Array,
  change: {
    readonly checkPointLsn: Lsn;
    readonly checkPoint: CheckPoint;
    readonly params?: ServerParameters;
    readonly checksumVersion?: number;
  },
): Uint8Array {
  const out = copyOf(template);
  const view = viewOf(out);
  view.setUint32(AT.state, DB_SHUTDOWNED, true);
  view.setBigInt64(AT.time, BigInt(change.checkPoint.timeS), true);
  view.setBigUint64(AT.checkPointLsn, BigInt(change.checkPointLsn), true);
  out.set(encodeCheckPoint(change.checkPoint), AT.checkPoint);
  view.setBigUint64(AT.unloggedLsn, FIRST_UNLOGGED_LSN, true);
  out.fill(0, AT.recoveryFields, AT.recoveryFieldsEnd);
  if (change.params) writeParameters(view, change.params);
  if (change.checksumVersion !== undefined) view.setUint32(AT.checksumVersion, change.checksumVersion, true);
  return seal(out);
}

/**
 * The pg_control of a cluster that is not there yet: its versions and sizes are those of any 64-bit build of PostgreSQL 15, so that a server
 * begins to start with it, and it leads to no checkpoint, so that it does not get further than that.
 */
export function placeholderControlFile(segSize: number): Uint8Array {
  checkSegmentSize(segSize);
  const out = new Uint8Array(CONTROL_FILE_BYTES);
  const view = viewOf(out);
  view.setUint32(AT.controlVersion, CONTROL_VERSION_15, true);
  view.setUint32(AT.catalogVersion, CATALOG_VERSION_15, true);
  view.setUint32(AT.state, DB_IN_PRODUCTION, true);
  view.setUint32(AT.maxAlignment, 8, true);
  view.setFloat64(AT.floatProbe, 1234567, true);
  view.setUint32(AT.blockSize, BLOCK_BYTES, true);
  view.setUint32(AT.relationSegmentBlocks, RELATION_SEGMENT_BLOCKS, true);
  view.setUint32(AT.walPageSize, XLOG_BLCKSZ, true);
  view.setUint32(AT.walSegmentSize, segSize, true);
  view.setUint32(AT.nameBytes, 64, true);
  view.setUint32(AT.indexColumns, 32, true);
  view.setUint32(AT.toastChunkBytes, 1996, true);
  view.setUint32(AT.largeObjectChunkBytes, 2048, true);
  view.setUint8(AT.float8ByValue, 1);
  return seal(out);
}

export function isPlaceholder(file: Uint8Array): boolean {
  return file.length === CONTROL_FILE_BYTES && viewOf(file).getBigUint64(AT.systemId, true) === 0n;
}

/** The same file for another system identifier. */
export function withSystemId(template: Uint8Array, systemId: bigint): Uint8Array {
  const out = copyOf(template);
  viewOf(out).setBigUint64(AT.systemId, systemId, true);
  return seal(out);
}

function copyOf(template: Uint8Array): Uint8Array {
  decodeControlFile(template);
  const out = new Uint8Array(CONTROL_FILE_BYTES);
  out.set(template.subarray(0, AT.structEnd));
  return out;
}

function seal(file: Uint8Array): Uint8Array {
  viewOf(file).setUint32(AT.crc, crc32c(file, 0, AT.crc), true);
  return file;
}

function readParameters(view: DataView): ServerParameters {
  return {
    walLevel: view.getInt32(AT.walLevel, true),
    walLogHints: view.getUint8(AT.walLogHints) !== 0,
    maxConnections: view.getInt32(AT.maxConnections, true),
    maxWorkerProcesses: view.getInt32(AT.maxWorkerProcesses, true),
    maxWalSenders: view.getInt32(AT.maxWalSenders, true),
    maxPreparedXacts: view.getInt32(AT.maxPreparedXacts, true),
    maxLocksPerXact: view.getInt32(AT.maxLocksPerXact, true),
    trackCommitTimestamp: view.getUint8(AT.trackCommitTimestamp) !== 0,
  };
}

function writeParameters(view: DataView, params: ServerParameters): void {
  view.setInt32(AT.walLevel, params.walLevel, true);
  view.setUint8(AT.walLogHints, params.walLogHints ? 1 : 0);
  view.setInt32(AT.maxConnections, params.maxConnections, true);
  view.setInt32(AT.maxWorkerProcesses, params.maxWorkerProcesses, true);
  view.setInt32(AT.maxWalSenders, params.maxWalSenders, true);
  view.setInt32(AT.maxPreparedXacts, params.maxPreparedXacts, true);
  view.setInt32(AT.maxLocksPerXact, params.maxLocksPerXact, true);
  view.setUint8(AT.trackCommitTimestamp, params.trackCommitTimestamp ? 1 : 0);
}
