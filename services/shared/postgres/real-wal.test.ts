/** The decoder, the tracker and page images against a real server's WAL; pg_waldump and pg_control are the judges. */
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { lsn, type Lsn } from '../core/lsn.js';
import { blockImage } from './block-image.js';
import { CheckpointTracker } from './checkpoint-tracker.js';
import { type ControlFile, decodeControlFile } from './control-file.js';
import { pageChecksum } from './page-checksum.js';
import { PD_CHECKSUM, PD_FLAGS, PD_LOWER, PD_UPPER } from './page-layout.js';
import { RM_XACT, RM_XLOG, XLOG_FPI, XLOG_XACT_PREPARE } from './rmgr.js';
import { describeRecord } from './testing/describe-record.js';
import { type RealWal, readWal, waldumpLines } from './testing/real-wal.js';
import { TempCluster } from './testing/temp-cluster.js';
import { runWorkload, WORKLOAD_CONFIG } from './testing/workload.js';
import { parseTwoPhaseFile, twoPhaseFile, twoPhaseFileName } from './twophase.js';
import { findEndOfWal } from './wal-end.js';
import { XLR_RMGR_INFO_MASK } from './wal-record.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';

const CHECKPOINT_RECORD_BYTES = 120;

function readControl(cluster: TempCluster): ControlFile {
  return decodeControlFile(readFileSync(path.join(cluster.dataDir, 'global/pg_control')));
}

/** Feeds all WAL in uneven pieces and calls back for each record. */
function decodeAll(wal: RealWal, systemId: bigint, onRecord: (decoder: WalStreamDecoder) => void): WalStreamDecoder {
  const { startLsn, segSize } = wal;
  const decoder = new WalStreamDecoder({ startLsn, segSize, systemId, skipContinuation: true });
  for (let at = 0, size = 1; at < wal.bytes.length; at += size) {
    size = 1 + ((size * 7919) % 150_000);
    decoder.feed(wal.bytes.subarray(at, at + size));
    while (decoder.next()) onRecord(decoder);
  }
  return decoder;
}

async function compareWithWaldump(cluster: TempCluster, wal: RealWal, systemId: bigint): Promise<void> {
  const expected = await waldumpLines(cluster, wal.startLsn, wal.endLsn);
  const actual: string[] = [];
  const decoder = decodeAll(wal, systemId, ({ record }) => actual.push(describeRecord(record)));
  assert.ok(actual.length > 5000);
  assert.deepEqual(actual, expected);
  assert.equal(decoder.recordEndLsn, wal.endLsn);
}

for (const [segmentMb, initdbArgs, config] of [
  [1, ['--data-checksums'], ['wal_compression = lz4', 'track_commit_timestamp = on', 'wal_level = logical']],
  [16, [], ['wal_compression = pglz', 'wal_consistency_checking = btree']],
] as const) {
  describe(`real WAL, segments of ${segmentMb} MB`, function () {
    this.timeout(120_000);
    const segSize = segmentMb * 1024 * 1024;
    let cluster: TempCluster;
    let base: ControlFile;
    let end: ControlFile;
    let wal: RealWal;

    before(async () => {
      cluster = await TempCluster.create({
        initdbArgs: [`--wal-segsize=${segmentMb}`, ...initdbArgs],
        config: [...WORKLOAD_CONFIG, ...config],
      });
      base = readControl(cluster);
      await cluster.start();
      await runWorkload(cluster, 1);
      await cluster.stop();
      end = readControl(cluster);
      wal = await readWal(cluster, segSize, lsn(end.checkPointLsn + CHECKPOINT_RECORD_BYTES));
    });
    after(() => cluster.destroy());

    it('gives the same records and blocks as pg_waldump', () => compareWithWaldump(cluster, wal, base.systemId));

    it('tracks what the shutdown checkpoint says, without looking at it', () => {
      const tracker = new CheckpointTracker({ checkPoint: base.checkPoint, params: base.params });
      decodeAll(wal, base.systemId, ({ record }) => {
        if (record.startLsn > base.checkPointLsn && record.startLsn < end.checkPointLsn) tracker.apply(record);
      });
      const tracked = tracker.state;
      const { redo, timeS, oldestActiveXid } = end.checkPoint;
      // The server hands out oids in batches of 8192 and, on a clean stop, gives back what it did not use.
      assert.ok(tracked.checkPoint.nextOid >= end.checkPoint.nextOid);
      const { nextOid } = end.checkPoint;
      assert.deepEqual({ ...tracked.checkPoint, redo, timeS, oldestActiveXid, nextOid }, end.checkPoint);
      assert.deepEqual(tracked.params, end.params);
    });

    it('makes the two-phase state files that the server made', () => {
      let latest: Uint8Array | null = null;
      decodeAll(wal, base.systemId, ({ record }) => {
        if (record.rmid === RM_XACT && (record.info & 0x70) === XLOG_XACT_PREPARE) latest = twoPhaseFile(record);
      });
      assert.ok(latest !== null);
      const state = parseTwoPhaseFile(latest);
      assert.equal(state.gid, 'left');
      assert.equal(state.subxids.length, 1);
      const file = path.join(cluster.dataDir, 'pg_twophase', twoPhaseFileName(state.xid));
      assert.deepEqual(Buffer.from(latest), readFileSync(file));
    });

    it('finds the end of WAL', async () => {
      const found = await findEndOfWal({
        startLsn: base.checkPointLsn,
        segSize,
        systemId: base.systemId,
        read: (at: Lsn) => wal.bytes.subarray(at - wal.startLsn, at - wal.startLsn + 100_000),
      });
      assert.equal(found.endLsn, wal.endLsn);
      assert.equal(found.lastRecordLsn, end.checkPointLsn);
    });
  });
}

describe('page images of a real server', function () {
  this.timeout(120_000);
  let cluster: TempCluster;
  before(async () => {
    cluster = await TempCluster.create({
      initdbArgs: ['--wal-segsize=1', '--data-checksums'],
      config: WORKLOAD_CONFIG,
    });
    await cluster.start();
    await cluster.psql(
      'create table t(id int, body text); insert into t select i, md5((i % 97)::text) from generate_series(1, 5000) i',
    );
  });
  after(() => cluster.destroy());

  it('are restored from every compression', async () => {
    const methods = ['off', 'pglz', 'lz4', 'zstd'];
    const fileOf = new Map<number, string>();
    for (const method of methods) {
      await cluster.psql(`set wal_compression = ${method}; create index by_${method} on t(body, id)`);
      const answer = await cluster.psql(
        `select pg_relation_filenode('by_${method}'), pg_relation_filepath('by_${method}')`,
      );
      const [node, file] = answer.split('|');
      fileOf.set(Number(node), file ?? '');
    }
    await cluster.stop();
    const control = readControl(cluster);
    const wal = await readWal(cluster, control.segSize, lsn(control.checkPointLsn + CHECKPOINT_RECORD_BYTES));
    const page = new Uint8Array(8192);
    const seen = [0, 0, 0, 0];
    decodeAll(wal, control.systemId, ({ record }) => {
      if (record.rmid !== RM_XLOG || (record.info & XLR_RMGR_INFO_MASK) !== XLOG_FPI) return;
      for (let id = 0; id <= record.maxBlockId; id++) {
        const file = fileOf.get(record.blockRel[id]!);
        if (file === undefined) continue;
        blockImage(record, id, page);
        const block = record.blockNumber[id]!;
        const stored = readFileSync(path.join(cluster.dataDir, file)).subarray(block * 8192, block * 8192 + 8192);
        assert.equal(pageChecksum(stored, block), stored.readUInt16LE(PD_CHECKSUM), 'checksum');
        // What lies in the hole is not logged; LSN and checksum come after the image was taken.
        stored.fill(0, stored.readUInt16LE(PD_LOWER), stored.readUInt16LE(PD_UPPER));
        assert.deepEqual(Buffer.from(page).subarray(PD_FLAGS), stored.subarray(PD_FLAGS));
        seen[record.imageCompression[id]!]! += 1;
      }
    });
    assert.ok(
      seen.every((count) => count >= 20),
      `images by compression: ${seen.join()}`,
    );
  });
});
