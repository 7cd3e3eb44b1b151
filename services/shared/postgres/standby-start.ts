/**
 * The WAL that a stock server needs to begin as a hot standby at a position L in the middle of history.
 *
 * At L stands a record of the running primary, so no checkpoint can be put there, and none before it, as its checkpoint must not lie
 * before its redo position. So an online checkpoint record is put where no WAL has been written yet, into the second page of the
 * segment behind the one of L, with redo = L:
 *
 *     segment of L                             the next segment
 *     ├──────────── L ─ ─ ─ ─ WAL to come ─ ─ ┤├ header, zeros ┤├ header, checkpoint (redo = L), zeros ─ ─
 *                   ▲ recovery begins here, with WAL from the primary     ▲ pg_control points here
 *
 * When the stream gets there it overwrites the record. Until then nobody can take it for WAL: whoever comes to that segment's beginning
 * finds zeros there, which end WAL.
 */
import type { Lsn } from '../core/lsn.js';
import { lsn as lsnOf } from '../core/lsn.js';
import type { CheckPoint } from './checkpoint.js';
import { encodeCheckPoint } from './checkpoint.js';
import { RM_XLOG, XLOG_CHECKPOINT_ONLINE } from './rmgr.js';
import { recordStart, segmentName, segmentNumber, segmentStart, writePageHeader, XLOG_BLCKSZ } from './wal-layout.js';
import { encodeRecord, layOutRecord, type SegmentFile } from './wal-synthesis.js';

export interface StandbyStart {
  readonly checkpointLsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly segment: SegmentFile;
}

/** `lsn`: a record boundary, not behind a page header. `oldestActiveXid`: no transaction below it runs or is prepared at `lsn`. */
export function standbyStart(options: {
  readonly lsn: Lsn;
  readonly checkPoint: CheckPoint;
  readonly oldestActiveXid: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly timeS: number;
}): StandbyStart {
  const { lsn, systemId, segSize, oldestActiveXid, timeS } = options;
  const { timelineId } = options.checkPoint;
  const checkPoint = {
    ...options.checkPoint,
    redo: recordStart(lsn, segSize),
    prevTimelineId: timelineId,
    timeS,
    oldestActiveXid,
  };
  const start = lsnOf(segmentStart(lsn, segSize) + segSize);
  const pageLsn = lsnOf(start + XLOG_BLCKSZ);
  const header = new Uint8Array(XLOG_BLCKSZ);
  const identity = { systemId, segSize, timelineId };
  writePageHeader(header, 0, { pageLsn: start, info: 0, timelineId, remainingBytes: 0, systemId, segSize });
  const record = encodeRecord({
    rmid: RM_XLOG,
    info: XLOG_CHECKPOINT_ONLINE,
    prevLsn: start,
    mainData: encodeCheckPoint(checkPoint),
  });
  const { bytes } = layOutRecord(record, pageLsn, identity);
  return {
    checkpointLsn: recordStart(pageLsn, segSize),
    checkPoint,
    segment: {
      name: segmentName(segmentNumber(start, segSize), segSize, timelineId),
      sizeBytes: segSize,
      pieces: [
        { offset: 0, bytes: header },
        { offset: XLOG_BLCKSZ, bytes },
      ],
    },
  };
}
