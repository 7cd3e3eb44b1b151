/**
 * Databases (resource manager 4), tablespaces (5) and relation maps (7).
 *
 *   create by file copy  u32 database, u32 tablespace, u32 source database, u32 source tablespace
 *   create by WAL        u32 database, u32 tablespace
 *   drop                 u32 database, i32 n, n × u32 tablespace
 *   drop tablespace      u32 tablespace
 *   relation map         u32 database (0: the shared map), u32 tablespace, i32 n, n bytes: the file
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import { makeKey } from '../key.js';
import { databaseKey, type DatabaseTag } from '../keyspace.js';
import { shardOfPage } from '../shard-keys.js';
import { VALUE_IMAGE } from '../storage/store.js';
import type { HeadState } from './head-state.js';
import type { Relation } from './relations.js';

const XLOG_DBASE_CREATE_FILE_COPY = 0x00;
const XLOG_DBASE_CREATE_WAL_LOG = 0x10;
const XLOG_DBASE_DROP = 0x20;
const XLOG_TBLSPC_DROP = 0x10;
const XLOG_RELMAP_UPDATE = 0x00;

/** A Promise only for a copy: it must read the source's pages. */
export function ingestDatabase(head: HeadState, record: WalRecord): void | Promise<void> {
  const reader = new MainDataReader(record);
  const lsn = record.endLsn;
  const db = reader.u32();
  switch (record.info & XLR_RMGR_INFO_MASK) {
    case XLOG_DBASE_CREATE_FILE_COPY: {
      const target = { db, spc: reader.u32() };
      const source = { db: reader.u32(), spc: reader.u32() };
      return copyDatabase(head, source, target, record.startLsn, lsn);
    }
    case XLOG_DBASE_CREATE_WAL_LOG:
      return head.databases.create({ db, spc: reader.u32() }, lsn);
    case XLOG_DBASE_DROP: {
      for (const spc of new Set(reader.u32List(reader.count(4)))) {
        dropRelations(head, { db, spc }, lsn);
        head.databases.drop({ db, spc }, lsn);
      }
      return;
    }
    default:
      throw reader.corrupt('there is no such database record');
  }
}

/** Relations that the tablespace had were dropped by their own transactions; directories of databases remain. */
export function ingestTablespace(head: HeadState, record: WalRecord): void {
  if ((record.info & XLR_RMGR_INFO_MASK) !== XLOG_TBLSPC_DROP) return;
  const spc = new MainDataReader(record).u32();
  for (const tag of head.databases.existing()) {
    if (tag.spc === spc) head.databases.drop(tag, record.endLsn);
  }
}

export function ingestRelationMap(head: HeadState, record: WalRecord): void {
  const reader = new MainDataReader(record);
  if ((record.info & XLR_RMGR_INFO_MASK) !== XLOG_RELMAP_UPDATE) throw reader.corrupt('there is no such relmap record');
  const db = reader.u32();
  const spc = reader.u32();
  const length = reader.count(1);
  const start = reader.take(length);
  head.databases.setRelationMap({ db, spc }, record.endLsn, record.bytes.slice(start, start + length));
}

function dropRelations(head: HeadState, tag: DatabaseTag, lsn: Lsn): void {
  for (const relation of relationsOf(head, tag)) head.relations.drop(relation, lsn);
}

function relationsOf(head: HeadState, tag: DatabaseTag): Relation[] {
  return [...head.relations.existing()].filter((relation) => relation.db === tag.db && relation.spc === tag.spc);
}

/**
 * Copies every page by value, as of `at`, the start of the record: all versions before it are in. What the target had is dropped
 * first, as in Postgres' own redo.
 */
async function copyDatabase(
  head: HeadState,
  source: DatabaseTag,
  target: DatabaseTag,
  at: Lsn,
  lsn: Lsn,
): Promise<void> {
  const { store, databases, relations } = head;
  if (!databases.has(source)) {
    throw new StorageError('corrupt', `WAL copies database ${source.spc}/${source.db}, which does not exist`);
  }
  dropRelations(head, target, lsn);
  const map = await store.get(databaseKey(source), at);
  if (map === null || map.length === 0) databases.create(target, lsn);
  else databases.setRelationMap(target, lsn, map.slice());
  for (const from of relationsOf(head, source)) {
    const to = relations.obtain(target.spc, target.db, from.rel, from.fork);
    relations.create(to, lsn);
    for (let block = 0; block < from.sizeBlocks; block++) {
      relations.include(to, block, lsn);
      if (shardOfPage(store.shard, to, block) !== store.shard.number) continue;
      const page = await store.getPage(makeKey(from.blocks, block), at);
      store.put(makeKey(to.blocks, block), lsn, VALUE_IMAGE, page === null ? new Uint8Array(0) : page.slice());
    }
  }
}
