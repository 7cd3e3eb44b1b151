/** For tests: valid values of the larger structs, with every field different from its default. */
import { lsn } from '../../core/lsn.js';
import type { CheckPoint } from '../checkpoint.js';
import type { ServerParameters } from '../control-file.js';

export const sampleCheckPoint: CheckPoint = {
  redo: lsn(0x12_3456_7890),
  timelineId: 1,
  prevTimelineId: 1,
  fullPageWrites: true,
  nextXid: (3n << 32n) | 1000n,
  nextOid: 24576,
  nextMulti: 5,
  nextMultiOffset: 12,
  oldestXid: 717,
  oldestXidDb: 1,
  oldestMulti: 1,
  oldestMultiDb: 4,
  timeS: 1_700_000_000,
  oldestCommitTsXid: 800,
  newestCommitTsXid: 900,
  oldestActiveXid: 999,
};

export const sampleParameters: ServerParameters = {
  walLevel: 2,
  walLogHints: true,
  maxConnections: 101,
  maxWorkerProcesses: 9,
  maxWalSenders: 11,
  maxPreparedXacts: 13,
  maxLocksPerXact: 65,
  trackCommitTimestamp: true,
};
