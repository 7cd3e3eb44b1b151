/**
 * Relation files that are created or cut short (resource manager 2).
 *
 *   create    u32 tablespace, u32 database, u32 relation, i32 fork
 *   truncate  u32 blocks that stay, u32 tablespace, u32 database, u32 relation, i32 flags: which forks
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import { makeKey } from '../key.js';
import { FORK_COUNT, FORK_FSM, FORK_MAIN, FORK_VM } from '../keyspace.js';
import { encodeVmTruncate, VM_HEAP_BLOCKS_PER_PAGE } from '../redo/neon-records.js';
import { VALUE_IMAGE, VALUE_RECORD } from '../storage/store.js';
import { remainingFsm } from './free-space-map.js';
import type { HeadState } from './head-state.js';
import type { Relation } from './relations.js';

const XLOG_SMGR_CREATE = 0x10;
const XLOG_SMGR_TRUNCATE = 0x20;

const TRUNCATE_HEAP = 0x1;
const TRUNCATE_VM = 0x2;
const TRUNCATE_FSM = 0x4;

const EMPTY_PAGE = new Uint8Array(0);

export function ingestSmgr(head: HeadState, record: WalRecord): void {
  const operation = record.info & XLR_RMGR_INFO_MASK;
  if (operation === XLOG_SMGR_CREATE) createRelation(head, record);
  else if (operation === XLOG_SMGR_TRUNCATE) truncateRelation(head, record);
  else throw new StorageError('corrupt', `there is no storage record with info ${operation}`);
}

function createRelation(head: HeadState, record: WalRecord): void {
  const reader = new MainDataReader(record);
  const spc = reader.u32();
  const db = reader.u32();
  const rel = reader.u32();
  const fork = reader.u32();
  if (fork >= FORK_COUNT) throw reader.corrupt(`relation fork ${fork} does not exist`);
  const relation = head.relations.obtain(spc, db, rel, fork);
  head.databases.create(relation, record.endLsn);
  head.relations.create(relation, record.endLsn);
}

/** As Postgres' redo does, it also makes the main fork if that is missing. */
function truncateRelation(head: HeadState, record: WalRecord): void {
  const reader = new MainDataReader(record);
  const blocks = reader.u32();
  const spc = reader.u32();
  const db = reader.u32();
  const rel = reader.u32();
  const flags = reader.u32();
  const lsn = record.endLsn;
  const main = head.relations.obtain(spc, db, rel, FORK_MAIN);
  head.databases.create(main, lsn);
  head.relations.create(main, lsn);
  if (flags & TRUNCATE_HEAP) head.relations.truncate(main, blocks, lsn);
  const fsm = head.relations.find(spc, db, rel, FORK_FSM);
  if (flags & TRUNCATE_FSM && fsm?.exists === true) truncateFsm(head, fsm, blocks, lsn);
  const map = head.relations.find(spc, db, rel, FORK_VM);
  if (flags & TRUNCATE_VM && map?.exists === true) truncateMap(head, map, blocks, lsn);
}

/**
 * The last page that stays may offer space in blocks that are gone; it is replaced by zeros, "nothing known". Postgres clears the
 * slots one by one; the map is a hint that vacuum rebuilds.
 */
function truncateFsm(head: HeadState, fsm: Relation, heapBlocks: number, lsn: Lsn): void {
  const { sizeBlocks, cutsPage } = remainingFsm(heapBlocks);
  if (cutsPage && sizeBlocks <= fsm.sizeBlocks) {
    head.store.put(makeKey(fsm.blocks, sizeBlocks - 1), lsn, VALUE_IMAGE, EMPTY_PAGE);
  }
  head.relations.truncate(fsm, sizeBlocks, lsn);
}

function truncateMap(head: HeadState, map: Relation, heapBlocks: number, lsn: Lsn): void {
  const wholePages = Math.floor(heapBlocks / VM_HEAP_BLOCKS_PER_PAGE);
  if (heapBlocks % VM_HEAP_BLOCKS_PER_PAGE === 0) {
    head.relations.truncate(map, wholePages, lsn);
    return;
  }
  if (wholePages >= map.sizeBlocks) return;
  head.store.put(makeKey(map.blocks, wholePages), lsn, VALUE_RECORD, encodeVmTruncate(heapBlocks));
  head.relations.truncate(map, wholePages + 1, lsn);
}
