/** Append throughput and latency of one safekeeper process with fsync: node --conditions=source --import tsx testing/bench.ts */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { lsn } from '#shared/core/lsn.js';
import { TTID } from './cluster.js';
import { SafekeeperProcess } from './process.js';
import { electLeader, ScriptedLink } from './scripted-proposer.js';
import { WalMaker } from './wal-maker.js';

const SEG_SIZE = 16 << 20;
const SYSTEM_ID = 7n;
const START = lsn(0x14f_f128);
const STREAM_BYTES = 192 << 20;
const WINDOW_BYTES = 16 << 20;
const SINGLES = 500;

const dir = await mkdtemp(path.join(process.argv[2] ?? tmpdir(), 'safekeeper-bench-'));
const safekeeper = await SafekeeperProcess.start(dir);
try {
  const link = new ScriptedLink(safekeeper.grpcAddr);
  await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE, create: true });
  const leader = await electLeader([link], 1, START);
  link.elect(1, leader.history);
  const maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });

  const latencies: number[] = [];
  for (let n = 0; n < SINGLES; n++) {
    const wal = maker.record(500);
    const began = performance.now();
    link.append(1, wal.startLsn, wal.bytes);
    await link.flushedTo(wal.endLsn);
    latencies.push(performance.now() - began);
  }
  latencies.sort((a, b) => a - b);
  const at = (share: number): string => (latencies[Math.floor(SINGLES * share)] ?? 0).toFixed(3);
  process.stdout.write(`append of 500 bytes, one at a time: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms\n`);

  const wal = maker.stretch(STREAM_BYTES, 8000);
  const began = performance.now();
  for (let sent = 0; sent < wal.bytes.length; sent += 128 * 1024) {
    link.append(1, lsn(wal.startLsn + sent), wal.bytes.subarray(sent, sent + 128 * 1024));
    await link.until(() => wal.startLsn + sent - Math.max(link.flushLsn, wal.startLsn) < WINDOW_BYTES);
  }
  await link.flushedTo(wal.endLsn);
  const seconds = (performance.now() - began) / 1000;
  process.stdout.write(`stream of ${STREAM_BYTES >> 20} MiB: ${(wal.bytes.length / 1e6 / seconds).toFixed(0)} MB/s\n`);
  link.close();
} finally {
  await safekeeper.end('SIGTERM');
  await rm(dir, { recursive: true, force: true });
}
