/**
 * Blocks that a record names: each becomes a version of that page, whatever resource manager wrote it. An uncompressed full-page
 * record becomes the page itself; everything else the slim record of that one block. Also the visibility map bits that heap records
 * clear without naming the map's block.
 */
import { formatLsn } from '#shared/core/lsn.js';
import { PD_LSN, PD_UPPER } from '#shared/postgres/page-layout.js';
import { RM_HEAP, RM_HEAP2, RM_XLOG, XLOG_FPI, XLOG_FPI_FOR_HINT } from '#shared/postgres/rmgr.js';
import { blockImage, IMAGE_PLAIN, type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import { makeKey } from '../key.js';
import { BLOCK_BYTES, FORK_VM, formatRel } from '../keyspace.js';
import { shardOfPage } from '../shard-keys.js';
import { vmChanges } from '../redo/page-effects.js';
import { changesNothing, shareSlimRecord, slimWillInit } from '../redo/slim-record.js';
import { VALUE_IMAGE, VALUE_INIT, VALUE_RECORD } from '../storage/store.js';
import type { HeadState } from './head-state.js';

const HALF = 0x1_0000_0000;

/** The store copies what it is given. */
const pageScratch = new Uint8Array(BLOCK_BYTES);
const pageView = new DataView(pageScratch.buffer);

export function ingestBlocks(head: HeadState, record: WalRecord): void {
  const { relations, store } = head;
  const { shard } = store;
  const lsn = record.endLsn;
  for (let id = 0; id <= record.maxBlockId; id++) {
    if (record.blockPresent[id] === 0 || changesNothing(record, id)) continue;
    const relation = relations.obtain(
      record.blockSpc[id]!,
      record.blockDb[id]!,
      record.blockRel[id]!,
      record.blockFork[id]!,
    );
    if (!relation.exists) head.databases.create(relation, lsn);
    const block = record.blockNumber[id]!;
    const isNew = relations.include(relation, block, lsn);
    const key = makeKey(relation.blocks, block);
    if (shardOfPage(shard, relation, block) !== shard.number) continue;
    if (isPlainFullPage(record, id)) {
      store.put(key, lsn, VALUE_IMAGE, fullPage(record, id));
    } else {
      const value = shareSlimRecord(record, id);
      store.put(key, lsn, isNew || slimWillInit(value) ? VALUE_INIT : VALUE_RECORD, value);
    }
  }
  if (record.rmid === RM_HEAP || record.rmid === RM_HEAP2) clearMapBits(head, record);
}

function isPlainFullPage(record: WalRecord, id: number): boolean {
  if (record.rmid !== RM_XLOG) return false;
  const operation = record.info & XLR_RMGR_INFO_MASK;
  return (
    (operation === XLOG_FPI || operation === XLOG_FPI_FOR_HINT) &&
    record.blockApplyImage[id] === 1 &&
    record.imageCompression[id] === IMAGE_PLAIN
  );
}

/** The page with its hole as zeros; a page that is in use gets the record's end as its LSN. Good until the next call. */
function fullPage(record: WalRecord, id: number): Uint8Array {
  const page = pageScratch;
  blockImage(record, id, page);
  const inUse = page[PD_UPPER] !== 0 || page[PD_UPPER + 1] !== 0;
  if (inUse) {
    pageView.setUint32(PD_LSN, Math.floor(record.endLsn / HALF), true);
    pageView.setUint32(PD_LSN + 4, record.endLsn >>> 0, true);
  }
  return page;
}

/** A map that is missing or too short has no bits to clear: that would be a server's mistake, not worth stopping for. */
function clearMapBits(head: HeadState, record: WalRecord): void {
  for (const { blockId, mapBlock, value } of vmChanges(record)) {
    const spc = record.blockSpc[blockId]!;
    const db = record.blockDb[blockId]!;
    const rel = record.blockRel[blockId]!;
    const map = head.relations.find(spc, db, rel, FORK_VM);
    if (map !== undefined && mapBlock < map.sizeBlocks) {
      head.store.put(makeKey(map.blocks, mapBlock), record.endLsn, VALUE_RECORD, value);
      continue;
    }
    const fields = { lsn: formatLsn(record.endLsn), relation: formatRel({ spc, db, rel, fork: FORK_VM }), mapBlock };
    head.log.warn(fields, 'skipped clearing bits of a visibility map page that does not exist');
  }
}
