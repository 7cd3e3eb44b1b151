/**
 * Appends to one safekeeper, over gRPC from this process, against `dd oflag=dsync` of as many bytes to a file that is there beforehand: in
 * pieces as a safekeeper gets them, and a whole segment at a time, which is the most that the disk gives.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { lsn } from '#shared/core/lsn.js';
import { TTID } from '../../services/safekeeper/testing/cluster.js';
import { SafekeeperProcess } from '../../services/safekeeper/testing/process.js';
import { electLeader, ScriptedLink } from '../../services/safekeeper/testing/scripted-proposer.js';
import { WalMaker } from '../../services/safekeeper/testing/wal-maker.js';
import { cpuSeconds } from '../harness/processes.js';
import { profiled } from './cpu-profile.js';
import { median, percentile, spread } from './stats.js';

const run = promisify(execFile);
const SEG_SIZE = 16 << 20;
const START = lsn(0x14f_f128);
const TERM = 1;
const SYSTEM_ID = 7n;
/** As compute_ctl sends it. */
const PIECE_BYTES = 128 << 10;
const WINDOW_BYTES = 16 << 20;
const STREAM_BYTES = 96 << 20;
/** The WAL of a small commit. */
const RECORD_BYTES = 500;
const SINGLES = 300;
const MIB = 1 << 20;
const PROFILE_LINES = 12;

interface Round {
  readonly mibPerSecond: number;
  /** Processor time of the safekeeper, ms for each MiB: what a busy machine hardly changes. */
  readonly cpuMs: number;
  /** Of single records, sorted. */
  readonly latenciesMs: readonly number[];
}

/** `count` writes of `bytes` to a file that is there already, each synced. Returns seconds. */
async function writeRaw(path: string, bytes: number, count: number): Promise<number> {
  const { stderr } = await run('dd', [
    ...['if=/dev/zero', `of=${path}`, `bs=${bytes}`, `count=${count}`, 'conv=notrunc', 'oflag=dsync'],
  ]);
  const seconds = Number(/copied, ([0-9.e-]+) s/.exec(stderr)?.[1]);
  if (!(seconds > 0)) throw new Error(`dd said: ${stderr}`);
  return seconds;
}

class Appender {
  private readonly link: ScriptedLink;
  private readonly maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });

  constructor(addr: string) {
    this.link = new ScriptedLink(addr);
  }

  async lead(): Promise<void> {
    await this.link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE, create: true });
    const leader = await electLeader([this.link], TERM, START);
    this.link.elect(TERM, leader.history);
  }

  async singles(): Promise<number[]> {
    const latenciesMs: number[] = [];
    for (let n = 0; n < SINGLES; n++) {
      const wal = this.maker.record(RECORD_BYTES);
      const began = performance.now();
      this.link.append(TERM, wal.startLsn, wal.bytes);
      await this.link.flushedTo(wal.endLsn);
      latenciesMs.push(performance.now() - began);
    }
    return latenciesMs.sort((a, b) => a - b);
  }

  async stream(): Promise<number> {
    const { link } = this;
    const wal = this.maker.stretch(STREAM_BYTES, 8000);
    const began = performance.now();
    for (let sent = 0; sent < wal.bytes.length; sent += PIECE_BYTES) {
      link.append(TERM, lsn(wal.startLsn + sent), wal.bytes.subarray(sent, sent + PIECE_BYTES));
      await link.until(() => wal.startLsn + sent - Math.max(link.flushLsn, wal.startLsn) < WINDOW_BYTES);
    }
    await link.flushedTo(wal.endLsn);
    return wal.bytes.length / MIB / ((performance.now() - began) / 1000);
  }

  close(): void {
    this.link.close();
  }
}

interface Raw {
  /** MiB/s of pieces as a safekeeper gets them, and of whole segments. */
  readonly pieces: number;
  readonly segments: number;
  /** Of one write as long as a record, on average. */
  readonly recordMs: number;
}

async function measureRaw(path: string): Promise<Raw> {
  const rate = async (bytes: number): Promise<number> =>
    STREAM_BYTES / MIB / (await writeRaw(path, bytes, STREAM_BYTES / bytes));
  return {
    pieces: await rate(PIECE_BYTES),
    segments: await rate(SEG_SIZE),
    recordMs: ((await writeRaw(path, RECORD_BYTES, SINGLES)) * 1000) / SINGLES,
  };
}

function report(ours: readonly Round[], raw: readonly Raw[]): string[] {
  const rates = ours.map((round) => round.mibPerSecond);
  const against = (peers: readonly number[]): string => {
    const ratio = median(rates.map((rate, at) => rate / (peers[at] ?? NaN)));
    return `${spread(peers)} MiB/s, ratio ${ratio.toFixed(2)}`;
  };
  const latency = (share: number): number => median(ours.map(({ latenciesMs }) => percentile(latenciesMs, share)));
  const rawMs = raw.map(({ recordMs }) => recordMs);
  const ratio = median(ours.map(({ latenciesMs }, at) => percentile(latenciesMs, 0.5) / (rawMs[at] ?? NaN)));
  return [
    `append of ${STREAM_BYTES / MIB} MiB to a safekeeper: ${spread(rates)} MiB/s, ` +
      `processor ${spread(
        ours.map(({ cpuMs }) => cpuMs),
        1,
      )} ms/MiB`,
    `  dd of ${PIECE_BYTES >> 10} KiB, each synced: ${against(raw.map(({ pieces }) => pieces))}`,
    `  dd of ${SEG_SIZE / MIB} MiB, each synced: ${against(raw.map(({ segments }) => segments))}`,
    `append of ${RECORD_BYTES} bytes, one at a time: p50 ${latency(0.5).toFixed(2)} ms, p99 ${latency(0.99).toFixed(2)} ms`,
    `  dd of as many, each synced: ${spread(rawMs, 2)} ms, ratio ${ratio.toFixed(2)}`,
  ];
}

/** `withProfile`: one more round, with what took the safekeeper's main thread. */
export async function benchAppend(rounds: number, withProfile: boolean): Promise<string[]> {
  const dir = await mkdtemp(join(tmpdir(), 'neon-append-'));
  const logPath = join(dir, 'safekeeper.log');
  const safekeeper = await SafekeeperProcess.start(join(dir, 'data'), [], { logPath });
  const appender = new Appender(safekeeper.grpcAddr);
  try {
    await appender.lead();
    // Code is compiled, segments are recycled from here on.
    await appender.singles();
    await appender.stream();
    const [ours, raw]: [Round[], Raw[]] = [[], []];
    const rawPath = join(dir, 'raw');
    await writeRaw(rawPath, SEG_SIZE, STREAM_BYTES / SEG_SIZE);
    for (let round = 0; round < rounds; round++) {
      const latenciesMs = await appender.singles();
      const before = cpuSeconds(safekeeper.ready.pid);
      const mibPerSecond = await appender.stream();
      const cpuMs = ((cpuSeconds(safekeeper.ready.pid) - before) * 1000) / (STREAM_BYTES / MIB);
      ours.push({ latenciesMs, mibPerSecond, cpuMs });
      raw.push(await measureRaw(rawPath));
    }
    const lines = report(ours, raw);
    if (!withProfile) return lines;
    const target = { pid: safekeeper.ready.pid, logPath };
    const profile = await profiled(target, PROFILE_LINES, () => appender.stream());
    return [...lines, `of the safekeeper's main thread, during ${profile.result.toFixed(0)} MiB/s:`, ...profile.lines];
  } finally {
    appender.close();
    await safekeeper.end('SIGTERM');
    await rm(dir, { recursive: true, force: true });
  }
}
