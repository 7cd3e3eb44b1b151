/**
 * An unmodified server must start, without recovery, on a directory synthesized at any record end L. The truth is a stock crash
 * recovery of the same history cut at L. WAL_BOOT_SWEEP=1 tries every distance from page and segment ends (minutes).
 */
import { strict as assert } from 'node:assert';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { formatLsn, lsn, type Lsn, parseLsn } from '../core/lsn.js';
import { CheckpointTracker } from './checkpoint-tracker.js';
import { type ControlFile, DB_IN_PRODUCTION, decodeControlFile, shutdownControlFile } from './control-file.js';
import { crc32c } from './crc32c.js';
import { physicalSlotState } from './replication-slot.js';
import { RM_XLOG, XLOG_OVERWRITE_CONTRECORD } from './rmgr.js';
import { describeRecord } from './testing/describe-record.js';
import { paddedLsn, readWal, type RealWal, waldumpLines } from './testing/real-wal.js';
import { TempCluster } from './testing/temp-cluster.js';
import { runWorkload, WORKLOAD_CONFIG } from './testing/workload.js';
import { findEndOfWal } from './wal-end.js';
import { pageOffset, recordStart, segmentName, segmentOffset, XLOG_BLCKSZ } from './wal-layout.js';
import { XLR_RMGR_INFO_MASK } from './wal-record.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';
import { firstSegments, segmentPrefix, synthesizeCheckpoint } from './wal-synthesis.js';

const SEGMENT = 1024 * 1024;
const SWEEP = process.env['WAL_BOOT_SWEEP'] === '1';
const QUIET = ['-c', 'autovacuum=off', '-c', 'restart_after_crash=off'];
const SLOT = 'walproposer';

interface Boundary {
  readonly endLsn: Lsn;
  readonly startLsn: Lsn;
  readonly lengthBytes: number;
}

function controlPath(cluster: TempCluster): string {
  return path.join(cluster.dataDir, 'global/pg_control');
}

function readControl(cluster: TempCluster): ControlFile {
  return decodeControlFile(readFileSync(controlPath(cluster)));
}

/** initdb stops cleanly; a server must believe that it crashed, else it does not look at the WAL behind the checkpoint. */
function markCrashed(cluster: TempCluster): void {
  const file = readFileSync(controlPath(cluster));
  file.writeUInt32LE(DB_IN_PRODUCTION, 16);
  file.writeUInt32LE(crc32c(file, 0, 288), 288);
  writeFileSync(controlPath(cluster), file);
}

function emptyDirectory(dir: string): void {
  for (const name of readdirSync(dir)) rmSync(path.join(dir, name), { recursive: true });
  mkdirSync(dir, { recursive: true });
}

/** Segment files with the history up to `end`, zeros behind it. */
function writeHistory(cluster: TempCluster, wal: RealWal, end: Lsn): void {
  const dir = path.join(cluster.dataDir, 'pg_wal');
  for (let start = wal.startLsn; start < end; start = lsn(start + SEGMENT)) {
    const file = Buffer.alloc(SEGMENT);
    wal.bytes.copy(file, 0, start - wal.startLsn, Math.min(end, start + SEGMENT) - wal.startLsn);
    writeFileSync(path.join(dir, segmentName(start / SEGMENT, SEGMENT)), file);
  }
}

function writeSynthesized(cluster: TempCluster, template: Uint8Array, at: Boundary, tracker: CheckpointTracker): Lsn {
  const { systemId, segSize } = decodeControlFile(template);
  const { checkPoint, params } = tracker.state;
  const made = synthesizeCheckpoint({
    lsn: at.endLsn,
    prevRecordLsn: at.startLsn,
    checkPoint,
    systemId,
    segSize,
    timeS: Math.floor(Date.now() / 1000),
  });
  for (const segment of firstSegments({ lsn: at.endLsn, bytes: made.bytes, systemId, segSize })) {
    const file = openSync(path.join(cluster.dataDir, 'pg_wal', segment.name), 'w', 0o600);
    ftruncateSync(file, segment.sizeBytes);
    for (const piece of segment.pieces) writeSync(file, piece.bytes, 0, piece.bytes.length, piece.offset);
    closeSync(file);
  }
  const control = { checkPointLsn: made.startLsn, checkPoint: made.checkPoint, params };
  writeFileSync(controlPath(cluster), shutdownControlFile(template, control));
  const slotDir = path.join(cluster.dataDir, 'pg_replslot', SLOT);
  mkdirSync(slotDir);
  writeFileSync(path.join(slotDir, 'state'), physicalSlotState({ name: SLOT, restartLsn: at.endLsn }));
  return made.startLsn;
}

const DIGEST = `select relname, (xpath('/row/n/text()', query_to_xml('select count(*) || '':'' || coalesce(sum(hashtext(t::text)), 0) as n
  from ' || oid::regclass || ' t', true, true, '')))[1] from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1;
  select gid from pg_prepared_xacts order by 1; select count(*) from pg_class; select datname from pg_database order by 1`;

/** Moves the server's WAL to `distance` bytes before the end of the present segment; false when other activity came between. */
async function fillSegment(cluster: TempCluster, distance: number): Promise<boolean> {
  const position = async (): Promise<Lsn> => parseLsn(await cluster.psql('select pg_current_wal_insert_lsn()'));
  const emit = (bytes: number): Promise<string> =>
    cluster.psql(`select pg_logical_emit_message(false, 'p', repeat('x', ${bytes})) is null`);
  const toEnd = SEGMENT - segmentOffset(await position(), SEGMENT);
  if (toEnd > 2 * XLOG_BLCKSZ) await emit(Math.floor((toEnd - 1.5 * XLOG_BLCKSZ) * 0.997));
  let at = await position();
  if (SEGMENT - segmentOffset(at, SEGMENT) > XLOG_BLCKSZ) {
    await emit(XLOG_BLCKSZ - pageOffset(at) + 40);
    at = await position();
  }
  const room = SEGMENT - segmentOffset(at, SEGMENT) - distance;
  // Header, prefix and the rest of such a record: found by trying one.
  await emit(1000);
  const overhead = (await position()) - at - 1000;
  await emit(room - (1000 + overhead) - overhead);
  return SEGMENT - segmentOffset(await position(), SEGMENT) === distance;
}

describe('starting a stock server on synthesized WAL', function () {
  this.timeout(SWEEP ? 1_200_000 : 120_000);
  let origin: TempCluster;
  let base: TempCluster;
  let wal: RealWal;
  let template: Buffer;
  const boundaries: Boundary[] = [];

  before(async () => {
    origin = await TempCluster.create({ initdbArgs: ['--wal-segsize=1'], config: WORKLOAD_CONFIG });
    template = readFileSync(controlPath(origin));
    base = await origin.clone();
    markCrashed(base);
    await origin.start(SWEEP ? QUIET : []);
    await runWorkload(origin, 0);
    if (SWEEP) {
      for (let distance = 8; distance <= 160; distance += 8) {
        while (!(await fillSegment(origin, distance))) await origin.psql('select pg_switch_wal()');
        await origin.psql('select txid_current(); select pg_switch_wal()');
      }
    }
    await origin.stop('immediate');
    const control = decodeControlFile(template);
    const all = await readWal(origin, SEGMENT, lsn(Number.MAX_SAFE_INTEGER));
    const read = (at: Lsn): Uint8Array => all.bytes.subarray(at - all.startLsn, at - all.startLsn + SEGMENT);
    const end = await findEndOfWal({
      startLsn: control.checkPointLsn,
      segSize: SEGMENT,
      systemId: control.systemId,
      read,
    });
    wal = { ...all, endLsn: end.endLsn, bytes: all.bytes.subarray(0, end.endLsn - all.startLsn) };
    followTo(end.endLsn, ({ record }) => {
      const { startLsn, endLsn, totalLength } = record;
      boundaries.push({ startLsn, endLsn, lengthBytes: totalLength });
    });
  });
  after(async () => {
    await origin.destroy();
    await base.destroy();
  });

  /** The tracker's state at `end`, from initdb's checkpoint on. */
  function followTo(end: Lsn, onRecord: (decoder: WalStreamDecoder) => void): CheckpointTracker {
    const control = decodeControlFile(template);
    const decoder = new WalStreamDecoder({ startLsn: control.checkPointLsn, segSize: SEGMENT });
    const tracker = new CheckpointTracker({ checkPoint: control.checkPoint, params: control.params });
    decoder.feed(wal.bytes.subarray(control.checkPointLsn - wal.startLsn, end - wal.startLsn));
    while (decoder.next()) {
      tracker.apply(decoder.record);
      onRecord(decoder);
    }
    assert.equal(decoder.recordEndLsn, end);
    return tracker;
  }

  async function checkAt(at: Boundary): Promise<void> {
    const tracker = followTo(at.endLsn, () => undefined);
    await using truth = await base.clone();
    writeHistory(truth, wal, at.endLsn);
    await truth.own();
    await truth.start(QUIET);
    await truth.stop('immediate');
    const recovered = readControl(truth);
    await using booted = await truth.clone();
    for (const dir of ['pg_wal', 'pg_replslot']) emptyDirectory(path.join(booted.dataDir, dir));
    rmSync(controlPath(booted));
    const startLsn = writeSynthesized(booted, template, at, tracker);
    await booted.own();

    const { redo, timeS, nextXid } = recovered.checkPoint;
    assert.equal(recovered.checkPointLsn, startLsn);
    // Recovery does not read the next xid of running-transactions records, we do: ours may be ahead by unused ones.
    assert.ok(tracker.state.checkPoint.nextXid >= nextXid && tracker.state.checkPoint.nextXid <= nextXid + 2n);
    assert.deepEqual({ ...tracker.state.checkPoint, redo, timeS, nextXid, oldestActiveXid: 0 }, recovered.checkPoint);

    await booted.start(QUIET);
    await truth.start(QUIET);
    const digest = await booted.psql(DIGEST);
    assert.equal(digest, await truth.psql(DIGEST));
    assert.equal(await booted.psql('select restart_lsn from pg_replication_slots'), formatLsn(at.endLsn));
    await booted.psql(
      'create table afterwards as select generate_series(1, 1000) i; checkpoint; insert into afterwards values (-1)',
    );
    await booted.stop('immediate');
    assert.match(booted.log(), /database system was shut down at/);
    assert.doesNotMatch(booted.log(), /WARNING|ERROR|PANIC|recovery in progress|redo/);
    await joinsHistory(booted, at, startLsn);
    await booted.start(QUIET);
    assert.equal(await booted.psql('select count(*) from afterwards'), '1001');
  }

  /** History up to L and the new server's WAL from L on read as one stream, for us and for pg_waldump. */
  async function joinsHistory(booted: TempCluster, at: Boundary, startLsn: Lsn): Promise<void> {
    const control = decodeControlFile(template);
    const fresh = await readWal(booted, SEGMENT, lsn(Number.MAX_SAFE_INTEGER));
    const decoder = new WalStreamDecoder({
      startLsn: control.checkPointLsn,
      segSize: SEGMENT,
      systemId: control.systemId,
    });
    decoder.feed(wal.bytes.subarray(control.checkPointLsn - wal.startLsn, at.endLsn - wal.startLsn));
    while (decoder.next());
    decoder.feed(fresh.bytes.subarray(at.endLsn - fresh.startLsn));
    const lines: string[] = [];
    let following: Lsn | null = null;
    for (let end: Lsn | null = null; ; end = decoder.recordEndLsn) {
      try {
        if (!decoder.next()) break;
      } catch {
        assert.ok(end !== null);
        break;
      }
      if (lines.length === 0) assert.equal(decoder.record.startLsn, startLsn);
      if (lines.length === 1) following = decoder.record.prevLsn;
      lines.push(describeRecord(decoder.record));
    }
    assert.equal(following, startLsn);
    assert.ok(lines.length > 100);
    assert.deepEqual(lines, await waldumpLines(booted, at.endLsn, decoder.recordEndLsn));
  }

  /** The latest record end that fits. */
  function pick(fits: (end: Lsn) => boolean): Boundary {
    const found = boundaries.findLast(({ endLsn }) => fits(endLsn));
    assert.ok(found !== undefined, 'the workload has no such position');
    return found;
  }

  const toPageEnd = (end: Lsn): number => -pageOffset(end) & (XLOG_BLCKSZ - 1);
  const toSegmentEnd = (end: Lsn): number => -segmentOffset(end, SEGMENT) & (SEGMENT - 1);

  it('works at the end of WAL, with a transaction prepared', () => checkAt(pick(() => true)));
  it('works at a page start', () => checkAt(pick((end) => toPageEnd(end) === 0 && toSegmentEnd(end) !== 0)));
  it('works at a segment start', () => checkAt(pick((end) => toSegmentEnd(end) === 0)));
  it('works where the record header is split', () => checkAt(pick((end) => toPageEnd(end) > 0 && toPageEnd(end) < 24)));
  it('works where the record is split', () => checkAt(pick((end) => toPageEnd(end) >= 24 && toPageEnd(end) < 112)));
  it('works in a segment’s last page', () => checkAt(pick((end) => toSegmentEnd(end) > 0 && toSegmentEnd(end) < 8192)));

  if (SWEEP) {
    for (let distance = 0; distance <= 160; distance += 8) {
      it(`works ${distance} bytes before a page end`, () => checkAt(pick((end) => toPageEnd(end) === distance)));
      it(`works ${distance} bytes before a segment end`, () => checkAt(pick((end) => toSegmentEnd(end) === distance)));
    }
  }

  it('is followed by a decoder that meets a record given up by the server', async () => {
    const spanning = boundaries.findLast(({ lengthBytes }) => lengthBytes > 2 * XLOG_BLCKSZ);
    assert.ok(spanning !== undefined);
    const cut = lsn(spanning.startLsn - pageOffset(spanning.startLsn) + XLOG_BLCKSZ);
    await using truth = await base.clone();
    writeHistory(truth, wal, cut);
    await truth.own();
    await truth.start(QUIET);
    await truth.psql('create table after_crash(i int); checkpoint');
    await truth.stop('fast');
    const end = readControl(truth).checkPointLsn;
    const whole = await readWal(truth, SEGMENT, lsn(end + 120));
    const from = decodeControlFile(template).checkPointLsn;
    const decoder = new WalStreamDecoder({ startLsn: from, segSize: SEGMENT });
    decoder.feed(whole.bytes.subarray(from - whole.startLsn));
    const lines: string[] = [];
    let overwrites = 0;
    while (decoder.next()) {
      lines.push(describeRecord(decoder.record));
      const { rmid, info } = decoder.record;
      if (rmid === RM_XLOG && (info & XLR_RMGR_INFO_MASK) === XLOG_OVERWRITE_CONTRECORD) overwrites += 1;
    }
    assert.equal(overwrites, 1);
    assert.deepEqual(lines, await waldumpLines(truth, from, whole.endLsn));
  });

  it('leads pg_waldump from a file’s first byte to the first record', async () => {
    const { systemId, segSize } = decodeControlFile(template);
    const middle = (end: Lsn): boolean => Math.abs(segmentOffset(end, SEGMENT) - SEGMENT / 2) < SEGMENT / 4;
    // With more than five records behind it in the segment: none of them is a segment switch.
    const goesOn = (index: number, end: Lsn): boolean => {
      const later = boundaries[index + 6];
      return later !== undefined && later.endLsn - end < toSegmentEnd(end);
    };
    const at = boundaries.findLast(
      ({ endLsn }, index) => middle(endLsn) && toPageEnd(endLsn) > 1000 && goesOn(index, endLsn),
    );
    assert.ok(at !== undefined);
    const start = lsn(at.endLsn - segmentOffset(at.endLsn, SEGMENT));
    const file = Buffer.alloc(SEGMENT);
    for (const { offset, bytes } of segmentPrefix({ lsn: at.endLsn, systemId, segSize })) file.set(bytes, offset);
    wal.bytes.copy(file, at.endLsn - start, at.endLsn - wal.startLsn, start + SEGMENT - wal.startLsn);
    const name = path.join(base.root, segmentName(start / SEGMENT, SEGMENT));
    writeFileSync(name, file);
    const { stdout } = await base.run('pg_waldump', ['-n', '5', name]);
    const found = stdout.split('\n').filter((line) => line.startsWith('rmgr:'));
    assert.equal(found.length, 5);
    assert.match(
      found[0] ?? '',
      new RegExp(`lsn: ${paddedLsn(recordStart(at.endLsn, SEGMENT))}, prev ${paddedLsn(at.startLsn)}`),
    );
  });

  it('begins behind the header on a page start', () => {
    const { endLsn } = pick((end) => toPageEnd(end) === 0 && toSegmentEnd(end) !== 0);
    assert.equal(recordStart(endLsn, SEGMENT), endLsn + 24);
  });
});
