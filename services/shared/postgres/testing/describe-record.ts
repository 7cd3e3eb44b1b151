/** For tests: a record in the form of waldumpLines. */
import { RMGR_NAMES } from '../rmgr.js';
import type { WalRecord } from '../wal-record.js';
import { paddedLsn } from './real-wal.js';

export function describeRecord(record: WalRecord): string {
  const rmgr = RMGR_NAMES[record.rmid] ?? String(record.rmid);
  const parts = [rmgr, record.totalLength, record.xid, paddedLsn(record.startLsn), paddedLsn(record.prevLsn)];
  for (let id = 0; id <= record.maxBlockId; id++) {
    if (record.blockPresent[id] === 0) continue;
    const rel = `${record.blockSpc[id]}/${record.blockDb[id]}/${record.blockRel[id]}`;
    const image = record.blockHasImage[id] === 1 ? 'F' : '';
    parts.push(`${id}:${rel}/${record.blockFork[id]}/${record.blockNumber[id]}${image}`);
  }
  return parts.join(' ');
}
