/**
 * Ends of transactions (resource manager 1): their status in pg_xact, relations that they drop, files of prepared
 * transactions, and how far a replication origin has come.
 */
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { XLOG_XACT_PREPARE } from '#shared/postgres/rmgr.js';
import { parsePrepare } from '#shared/postgres/twophase.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { isXactEnd, parseXactEnd, type XactEnd, xactOperation } from '#shared/postgres/xact-record.js';
import { FORK_COUNT, SLRU_CLOG } from '../keyspace.js';
import { clogChanges } from '../redo/page-effects.js';
import { putCommitTimes } from './commit-times.js';
import { dropTwoPhase, type HeadState, putTwoPhase } from './head-state.js';

/** `tracksCommitTimes`: pg_commit_ts is kept. */
export function ingestXact(head: HeadState, record: WalRecord, tracksCommitTimes: boolean): void {
  const operation = xactOperation(record);
  if (isXactEnd(operation)) {
    endTransaction(head, record, parseXactEnd(record), tracksCommitTimes);
  } else if (operation === XLOG_XACT_PREPARE) {
    const { xid, originLsn } = parsePrepare(record);
    if (record.originId !== 0) head.origins.advance(record.originId, originLsn, record.endLsn, false);
    const start = record.mainDataOffset;
    putTwoPhase(head, xid, record.endLsn, record.bytes.slice(start, start + record.mainDataLength));
  }
}

function endTransaction(head: HeadState, record: WalRecord, end: XactEnd, tracksCommitTimes: boolean): void {
  const lsn = record.endLsn;
  if (end.xid !== 0) {
    const xids = end.subxids.length === 0 ? [end.xid] : [end.xid, ...end.subxids];
    for (const change of clogChanges(xids, end.kind === 'commit', end.timeUs)) {
      head.slrus.changePage(SLRU_CLOG, change.pageNumber, lsn, change.value);
    }
    if (tracksCommitTimes && end.kind === 'commit') putCommitTimes(head, end, record.originId, xids, lsn);
  } else if (end.subxids.length > 0) {
    throw new MainDataReader(record).corrupt('subtransactions without a transaction');
  }
  for (const { spc, db, rel } of end.droppedRelations) {
    for (let fork = 0; fork < FORK_COUNT; fork++) {
      const relation = head.relations.find(spc, db, rel, fork);
      if (relation !== undefined) head.relations.drop(relation, lsn);
    }
  }
  if (end.originLsn !== null) head.origins.advance(record.originId, end.originLsn, lsn, false);
  if (end.prepared) dropTwoPhase(head, end.xid, lsn);
}
