/**
 * Ingest rate of the page server: it is killed with much WAL in memory only, so that after its restart it streams all of it again
 * from the safekeepers; once into memory alone, and once more with a flush of layers every few MiB. No layers are merged meanwhile. The
 * peer is a hot standby whose replay was held back over the same load.
 */
import { join } from 'node:path';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { lsnFromWire, parseLsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { cpuSeconds } from '../harness/processes.js';
import { query, until, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { profiled } from './cpu-profile.js';
import { median, spread } from './stats.js';
import type { SyncPair } from './sync-pair.js';

const ROWS = 400_000;
const LOAD = `insert into ingest select i, i % 1000, md5(i::text) from generate_series(1, ${ROWS}) i`;
const MIB = 1 << 20;
const TIMEOUT_MS = 300_000;
const NEVER = 10_000;
const PROFILE_LINES = 20;

/** WAL after which an in-memory layer is flushed: more than there is, and little. */
const DISTANCES = { memory: 4096 * MIB, flush: 16 * MIB } as const;
type Way = keyof typeof DISTANCES;

interface Measured {
  readonly bytes: number;
  readonly ms: number;
}

interface Ours extends Measured {
  /** Processor time of the page server. */
  readonly cpuMs: number;
  readonly layersFlushed: number;
}

const rate = ({ bytes, ms }: Measured): number => bytes / MIB / (ms / 1000);

async function lsnOf(url: string): Promise<number> {
  return parseLsn(await value(url, 'select pg_current_wal_flush_lsn()'));
}

class Target {
  private readonly stack: TestStack;
  private readonly compute: string;
  private readonly ttid: TenantTimelineId;
  private end = 0;

  private constructor(stack: TestStack, compute: string, ttid: TenantTimelineId) {
    this.stack = stack;
    this.compute = compute;
    this.ttid = ttid;
  }

  static async of(stack: TestStack, compute: string): Promise<Target> {
    const { tenantId, timelineId } = await stack.compute('main');
    return new Target(stack, compute, parseTtid({ tenantId, timelineId }));
  }

  private async call<T>(act: (client: ManagementServiceClient) => Promise<T>): Promise<T> {
    const client = createClient(ManagementServiceClient, (await this.stack.service('pageserver')).grpcAddr);
    try {
      return await act(client);
    } finally {
      client.close();
    }
  }

  private async setDistance(checkpointDistanceBytes: number): Promise<void> {
    const config = { checkpointDistanceBytes: BigInt(checkpointDistanceBytes) };
    const noMerges = { compactionThreshold: NEVER, imageCreationThreshold: NEVER };
    const { tenantId } = this.ttid;
    await this.call((client) =>
      callUnary(client, client.setTenantConfig, { tenantId, config: { ...config, ...noMerges } }),
    );
  }

  /** WAL that is in the page server's memory, and of which it has uploaded nothing. */
  async load(): Promise<void> {
    const { ttid } = this;
    await this.setDistance(DISTANCES.memory);
    await this.call((client) => callUnary(client, client.checkpoint, { ttid }, { deadlineMs: TIMEOUT_MS }));
    await query(this.compute, `truncate ingest; ${LOAD}`);
    this.end = await lsnOf(this.compute);
    await this.call((client) => this.waitEnd(client));
  }

  private async timeline(client: ManagementServiceClient): Promise<TimelineInfo> {
    const { timeline } = await callUnary(client, client.getTimeline, { ttid: this.ttid }, { deadlineMs: 5_000 });
    if (timeline === undefined) throw new Error('the page server says nothing of the timeline');
    return timeline;
  }

  private async waitEnd(client: ManagementServiceClient): Promise<void> {
    await until('the page server to have the load', TIMEOUT_MS, async () => {
      return lsnFromWire((await this.timeline(client)).lastRecordLsn) >= this.end;
    });
  }

  /** Kills the page server and measures how it takes the load anew. `flush` last: then the load is in layers. */
  async replay(way: Way, lines: string[] | null): Promise<Ours> {
    await this.setDistance(DISTANCES[way]);
    const { restartCount } = await this.stack.service('pageserver');
    await this.stack.killService('pageserver');
    const { pid } = await this.stack.waitRestarted('pageserver', restartCount + 1);
    const act = (): Promise<Ours> => this.call((client) => this.measure(client, pid));
    if (lines === null) return act();
    const logPath = join(this.stack.repoDir, 'logs', 'pageserver.log');
    const found = await profiled({ pid, logPath }, PROFILE_LINES, act);
    lines.push(`of the page server's main thread, ${way} at ${rate(found.result).toFixed(1)} MiB/s:`, ...found.lines);
    return found.result;
  }

  private async measure(client: ManagementServiceClient, pid: number): Promise<Ours> {
    // The clock starts when streaming has begun; what came before counts on neither side.
    const first = await until('streaming to begin', TIMEOUT_MS, () => this.timeline(client).catch(() => null));
    const [began, before] = [performance.now(), cpuSeconds(pid)];
    await this.waitEnd(client);
    const ms = performance.now() - began;
    const cpuMs = (cpuSeconds(pid) - before) * 1000;
    const layersFlushed = (await this.timeline(client)).layerCount - first.layerCount;
    return { bytes: this.end - Number(first.lastRecordLsn), ms, cpuMs, layersFlushed };
  }
}

async function measureStandby(pair: SyncPair): Promise<Measured> {
  // The standby goes on receiving and flushing, so that commits return; only its replay is held back.
  await query(pair.standbyUrl, 'select pg_wal_replay_pause()');
  const start = parseLsn(await value(pair.standbyUrl, 'select pg_last_wal_replay_lsn()'));
  await query(pair.url, `truncate ingest; ${LOAD}`);
  const end = await lsnOf(pair.url);
  const began = performance.now();
  await query(pair.standbyUrl, 'select pg_wal_replay_resume()');
  await until('the standby to catch up', TIMEOUT_MS, async () => {
    return parseLsn(await value(pair.standbyUrl, 'select pg_last_wal_replay_lsn()')) >= end;
  });
  return { bytes: end - start, ms: performance.now() - began };
}

function line(way: Way, ours: readonly Ours[], theirs: readonly Measured[]): string {
  const what = way === 'memory' ? 'into memory' : `flushed every ${DISTANCES.flush / MIB} MiB`;
  const mib = median(ours.map(({ bytes }) => bytes)) / MIB;
  const layers = median(ours.map(({ layersFlushed }) => layersFlushed));
  const cpu = ours.map(({ cpuMs, bytes }) => cpuMs / (bytes / MIB));
  const ratio = median(ours.map((each, at) => rate(each) / rate(theirs[at]!)));
  return (
    `ingest of ${mib.toFixed(0)} MiB of WAL ${what} (${layers} layers): ${spread(ours.map(rate), 1)} MiB/s, ` +
    `processor ${spread(cpu, 1)} ms/MiB, to the standby's replay ${ratio.toFixed(2)}`
  );
}

export interface IngestOptions {
  readonly rounds: number;
  /** One more round, with what took the page server's main thread. */
  readonly profile: boolean;
}

export async function benchIngest(
  stack: TestStack,
  compute: string,
  pair: SyncPair,
  { rounds, profile }: IngestOptions,
): Promise<string[]> {
  for (const url of [compute, pair.url]) {
    await query(url, 'create table ingest (id int primary key, k int, text text); create index on ingest (k)');
  }
  const target = await Target.of(stack, compute);
  const [memory, flush, theirs]: [Ours[], Ours[], Measured[]] = [[], [], []];
  for (let round = 0; round < rounds; round++) {
    await target.load();
    memory.push(await target.replay('memory', null));
    flush.push(await target.replay('flush', null));
    theirs.push(await measureStandby(pair));
  }
  const lines = [
    line('memory', memory, theirs),
    line('flush', flush, theirs),
    `the standby's replay of as much: ${spread(theirs.map(rate), 1)} MiB/s`,
  ];
  if (!profile) return lines;
  await target.load();
  for (const way of ['memory', 'flush'] as const) await target.replay(way, lines);
  return lines;
}
