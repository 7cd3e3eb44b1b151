/**
 * Times and origins of commits in pg_commit_ts. They are kept only while the server says so; a change of that setting is a record, and
 * switching it off forgets all.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { XLOG_PARAMETER_CHANGE } from '#shared/postgres/rmgr.js';
import { commitTsPage } from '#shared/postgres/slru.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import type { XactEnd } from '#shared/postgres/xact-record.js';
import { SLRU_COMMIT_TS } from '../keyspace.js';
import { commitTsChanges } from '../redo/page-effects.js';
import type { HeadState } from './head-state.js';

/** Of the parameters in the record: six integers and one flag come before. */
const TRACK_COMMIT_TIMESTAMP_AT = 25;

/** The checkpoint state before the record at hand. */
interface StateBefore {
  readonly tracksCommitTimes: boolean;
  readonly nextXid: number;
}

/** Of a record of resource manager 0. Switching on makes the page of the next transaction, as the server does. */
export function ingestParameters(head: HeadState, record: WalRecord, before: StateBefore): void {
  if ((record.info & XLR_RMGR_INFO_MASK) !== XLOG_PARAMETER_CHANGE) return;
  const reader = new MainDataReader(record);
  reader.take(TRACK_COMMIT_TIMESTAMP_AT);
  const tracked = before.tracksCommitTimes;
  const now = reader.u8() !== 0;
  if (now && !tracked) {
    const page = commitTsPage(before.nextXid);
    if (!head.slrus.hasPage(SLRU_COMMIT_TS, page)) head.slrus.zeroPage(SLRU_COMMIT_TS, page, record.endLsn);
  } else if (!now && tracked) {
    for (const segno of head.slrus.existing(SLRU_COMMIT_TS)) head.slrus.drop(SLRU_COMMIT_TS, segno);
  }
}

/** Of a commit while times are kept. A transaction that came by replication has its origin's time. */
export function putCommitTimes(head: HeadState, end: XactEnd, origin: number, xids: readonly number[], lsn: Lsn): void {
  for (const { pageNumber, value } of commitTsChanges(xids, end.originTimeUs ?? end.timeUs, origin)) {
    head.slrus.changePage(SLRU_COMMIT_TS, pageNumber, lsn, value);
  }
}
