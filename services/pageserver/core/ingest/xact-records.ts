/** Ends of transactions (resource manager 1): their status in pg_xact, relations that they drop, files of prepared transactions. */
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { XLOG_XACT_PREPARE } from '#shared/postgres/rmgr.js';
import { parsePrepare } from '#shared/postgres/twophase.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { isXactEnd, parseXactEnd, type XactEnd, xactOperation } from '#shared/postgres/xact-record.js';
import { FORK_COUNT, SLRU_CLOG } from '../keyspace.js';
import { clogChanges } from '../redo/page-effects.js';
import { dropTwoPhase, type HeadState, putTwoPhase } from './head-state.js';

export function ingestXact(head: HeadState, record: WalRecord): void {
  const operation = xactOperation(record);
  if (isXactEnd(operation)) {
    endTransaction(head, record, parseXactEnd(record));
  } else if (operation === XLOG_XACT_PREPARE) {
    const { xid } = parsePrepare(record);
    const start = record.mainDataOffset;
    putTwoPhase(head, xid, record.endLsn, record.bytes.slice(start, start + record.mainDataLength));
  }
}

function endTransaction(head: HeadState, record: WalRecord, end: XactEnd): void {
  const lsn = record.endLsn;
  if (end.xid !== 0) {
    const xids = end.subxids.length === 0 ? [end.xid] : [end.xid, ...end.subxids];
    for (const change of clogChanges(xids, end.kind === 'commit', end.timeUs)) {
      head.slrus.changePage(SLRU_CLOG, change.pageNumber, lsn, change.value);
    }
  } else if (end.subxids.length > 0) {
    throw new MainDataReader(record).corrupt('subtransactions without a transaction');
  }
  for (const { spc, db, rel } of end.droppedRelations) {
    for (let fork = 0; fork < FORK_COUNT; fork++) {
      const relation = head.relations.find(spc, db, rel, fork);
      if (relation !== undefined) head.relations.drop(relation, lsn);
    }
  }
  if (end.prepared) dropTwoPhase(head, end.xid, lsn);
}
