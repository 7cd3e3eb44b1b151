import { strict as assert } from 'node:assert';
import { lsn } from '../core/lsn.js';
import { encodeCheckPoint } from './checkpoint.js';
import { CheckpointTracker, decodeTrackerState, encodeTrackerState, type TrackerState } from './checkpoint-tracker.js';
import * as rmgr from './rmgr.js';
import { sampleCheckPoint, sampleParameters } from './testing/samples.js';
import { WalBuilder } from './testing/wal-builder.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';
import { parseXactEnd } from './xact-record.js';

const identity = { segSize: 1024 * 1024, systemId: 5n };
const start: TrackerState = { checkPoint: sampleCheckPoint, params: sampleParameters };

interface Given {
  readonly rmid: number;
  readonly info: number;
  readonly xid?: number;
  readonly mainData: Uint8Array;
}

/** Little-endian: a number is a u32, a bigint a u64, bytes are themselves. */
function data(...fields: (number | bigint | Uint8Array)[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (field instanceof Uint8Array) return field;
      const bytes = Buffer.alloc(typeof field === 'bigint' ? 8 : 4);
      if (typeof field === 'bigint') bytes.writeBigUInt64LE(field);
      else bytes.writeUInt32LE(field);
      return bytes;
    }),
  );
}

function decoded(records: readonly Given[]): WalStreamDecoder {
  const builder = new WalBuilder({ ...identity, startLsn: lsn(0x500000) });
  for (const record of records) builder.append(record);
  const decoder = new WalStreamDecoder({ startLsn: lsn(0x500000), ...identity });
  decoder.feed(builder.bytes);
  return decoder;
}

/** The state after the records, and whether the last one changed it. */
function track(from: TrackerState, ...records: Given[]): TrackerState & { changed: boolean } {
  const decoder = decoded(records);
  const tracker = new CheckpointTracker(from);
  let changed = false;
  while (decoder.next()) changed = tracker.apply(decoder.record);
  return { ...tracker.state, changed };
}

function withCheckPoint(change: Partial<TrackerState['checkPoint']>): TrackerState {
  return { ...start, checkPoint: { ...start.checkPoint, ...change } };
}

const none = new Uint8Array(0);
const commitTime = 777_000_000n;

describe('checkpoint tracker', () => {
  it('counts xids, over the end of the 32 bits too', () => {
    const heap = (xid: number): Given => ({ rmid: rmgr.RM_HEAP, info: 0, xid, mainData: none });
    assert.equal(track(start, heap(1000)).checkPoint.nextXid, (3n << 32n) | 1001n);
    assert.equal(track(start, heap(999)).changed, false);
    assert.equal(track(start, heap(0)).changed, false);
    const nearEnd = withCheckPoint({ nextXid: (3n << 32n) | 0xffff_fffen });
    assert.equal(track(nearEnd, heap(0xffff_fffe)).checkPoint.nextXid, (3n << 32n) | 0xffff_ffffn);
    assert.equal(track(nearEnd, heap(0xffff_ffff)).checkPoint.nextXid, (4n << 32n) | 3n);
    assert.equal(track(nearEnd, heap(10)).checkPoint.nextXid, (4n << 32n) | 11n);
    assert.equal(track(withCheckPoint({ nextXid: (4n << 32n) | 11n }), heap(0xffff_ff00)).changed, false);
  });

  it('takes a shutdown checkpoint as it is, an online one as a lower bound', () => {
    const seen = { ...sampleCheckPoint, nextXid: 500n, nextOid: 17000, nextMulti: 3, oldestXid: 720, timeS: 1 };
    const record = (info: number): Given => ({ rmid: rmgr.RM_XLOG, info, mainData: encodeCheckPoint(seen) });
    const shutdown = track(start, record(rmgr.XLOG_CHECKPOINT_SHUTDOWN)).checkPoint;
    // Nothing runs there: the next transaction will be the oldest.
    assert.deepEqual(shutdown, { ...seen, oldestActiveXid: 500 });
    const online = track(start, record(rmgr.XLOG_CHECKPOINT_ONLINE)).checkPoint;
    assert.deepEqual(online, { ...sampleCheckPoint, oldestXid: 720, timeS: 1 });
  });

  it('follows oids, full-page writes and parameters', () => {
    const oid = track(start, { rmid: rmgr.RM_XLOG, info: rmgr.XLOG_NEXTOID, mainData: data(32768) });
    assert.equal(oid.checkPoint.nextOid, 32768);
    const pages = track(start, { rmid: rmgr.RM_XLOG, info: rmgr.XLOG_FPW_CHANGE, mainData: Buffer.from([0]) });
    assert.equal(pages.checkPoint.fullPageWrites, false);
    const parameters = (commitTs: number): Given => ({
      rmid: rmgr.RM_XLOG,
      info: rmgr.XLOG_PARAMETER_CHANGE,
      mainData: data(200, 8, 10, 0, 64, 1, Buffer.from([0, commitTs, 0, 0])),
    });
    const off = track(start, parameters(0));
    assert.deepEqual([off.params.maxConnections, off.params.walLevel, off.params.walLogHints], [200, 1, false]);
    assert.deepEqual([off.checkPoint.oldestCommitTsXid, off.checkPoint.newestCommitTsXid], [0, 0]);
    const on = track(off, parameters(1));
    assert.deepEqual([on.checkPoint.oldestCommitTsXid, on.checkPoint.newestCommitTsXid], [1000, 1000]);
  });

  it('counts subtransactions and prepared transactions of commits', () => {
    // xinfo: subtransactions, two-phase.
    const mainData = data(commitTime, 0x12, 2, 1500, 1501, 1400);
    const info = rmgr.XLOG_XACT_COMMIT_PREPARED | rmgr.XLOG_XACT_HAS_INFO;
    const { checkPoint } = track(start, { rmid: rmgr.RM_XACT, info, xid: 0, mainData });
    assert.equal(checkPoint.nextXid, (3n << 32n) | 1502n);
    assert.equal(checkPoint.newestCommitTsXid, 1501);
    const assignment = { rmid: rmgr.RM_XACT, info: rmgr.XLOG_XACT_ASSIGNMENT, mainData: data(1600, 1, 1601) };
    assert.equal(track(start, assignment).checkPoint.nextXid, (3n << 32n) | 1602n);
  });

  it('follows multixacts', () => {
    const create = { rmid: rmgr.RM_MULTIXACT, info: rmgr.XLOG_MULTIXACT_CREATE_ID };
    const made = track(start, { ...create, mainData: data(5, 12, 2, 1100, 0, 990, 4) }).checkPoint;
    assert.deepEqual([made.nextMulti, made.nextMultiOffset, made.nextXid], [6, 14, (3n << 32n) | 1101n]);
    const last = withCheckPoint({ nextMulti: 0xffff_ffff, nextMultiOffset: 0xffff_ffff });
    const wrapped = track(last, { ...create, mainData: data(0xffff_ffff, 0xffff_ffff, 1, 990, 0) }).checkPoint;
    assert.deepEqual([wrapped.nextMulti, wrapped.nextMultiOffset], [1, 0]);
    const truncate = { rmid: rmgr.RM_MULTIXACT, info: rmgr.XLOG_MULTIXACT_TRUNCATE_ID, mainData: data(9, 1, 4, 0, 7) };
    const cut = track(start, truncate).checkPoint;
    assert.deepEqual([cut.oldestMulti, cut.oldestMultiDb], [4, 9]);
  });

  it('follows running transactions and the end of commit times', () => {
    const running = { rmid: rmgr.RM_STANDBY, info: rmgr.XLOG_RUNNING_XACTS, mainData: data(0, 0, 0, 1200, 1100, 1199) };
    assert.equal(track(start, running).checkPoint.nextXid, (3n << 32n) | 1200n);
    assert.equal(track(start, running).checkPoint.oldestActiveXid, 1100);
    const truncate = { rmid: rmgr.RM_COMMIT_TS, info: rmgr.COMMIT_TS_TRUNCATE, mainData: data(1, 850) };
    assert.equal(track(start, truncate).checkPoint.oldestCommitTsXid, 850);
  });

  it('calls records that are cut off corrupt', () => {
    const cut: Given[] = [
      { rmid: rmgr.RM_XLOG, info: rmgr.XLOG_CHECKPOINT_ONLINE, mainData: new Uint8Array(87) },
      { rmid: rmgr.RM_XACT, info: rmgr.XLOG_XACT_HAS_INFO, mainData: data(commitTime, 2, 1000, 5) },
      { rmid: rmgr.RM_XACT, info: rmgr.XLOG_XACT_HAS_INFO, mainData: data(commitTime, 2, 0xffff_ffff) },
      { rmid: rmgr.RM_XACT, info: rmgr.XLOG_XACT_PREPARE, mainData: new Uint8Array(72) },
      { rmid: rmgr.RM_MULTIXACT, info: rmgr.XLOG_MULTIXACT_CREATE_ID, mainData: data(5, 12, 2, 1100, 0) },
    ];
    for (const record of cut) assert.throws(() => track(start, record), { kind: 'corrupt' });
  });

  it('round-trips its state', () => {
    assert.deepEqual(decodeTrackerState(encodeTrackerState(start)), start);
    assert.throws(() => decodeTrackerState(encodeTrackerState(start).subarray(1)), { kind: 'corrupt' });
  });
});

describe('transaction end records', () => {
  it('are read to the last field', () => {
    const gid = Buffer.from('name\0');
    const xinfo = 0x1ff;
    const mainData = data(
      ...[commitTime, xinfo, 5, 1663, 1, 1500, 1, 1663, 5, 16384, 1, 1, 5, 16384, 1, new Uint8Array(16)],
      ...[1400, gid, 0x12_3456_7890n, commitTime + 5n],
    );
    const info = rmgr.XLOG_XACT_COMMIT_PREPARED | rmgr.XLOG_XACT_HAS_INFO;
    const decoder = decoded([{ rmid: rmgr.RM_XACT, info, mainData }]);
    assert.ok(decoder.next());
    assert.deepEqual(parseXactEnd(decoder.record), {
      kind: 'commit',
      xid: 1400,
      prepared: true,
      timeUs: 777_000_000,
      xinfo,
      subxids: [1500],
      droppedRelations: [{ spc: 1663, db: 5, rel: 16384 }],
      gid: 'name',
      originLsn: 0x12_3456_7890,
      originTimeUs: 777_000_005,
    });
  });
});
