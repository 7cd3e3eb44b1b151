/**
 * Compaction: how fast many layers become few, in bytes of layer files, and how fast images are made, in bytes of pages; and what it does
 * to page reads that go on meanwhile. The peer is a file of as many bytes, written and synced on the same disk.
 *
 * The table is text that compresses to about a half, written in parts, with updates all over it in between.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseLsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { StorageReader } from '../harness/storage-reader.js';
import { query, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { cpuSeconds } from '../harness/processes.js';
import { threadProfiles } from './cpu-profile.js';
import { shuffle, tablePages } from './getpage.js';
import { encodeRequests, PageLoad } from './page-load.js';
import { percentile } from './stats.js';

const MIB = 1 << 20;
const ROUNDS = 8;
const ROWS_A_SCALE = 40_000;
const PAGE_BYTES = 8192;
const PROFILE_LINES = 14;
const IN_FLIGHT = 4;
const PAGES_A_PASS = 2_000;
const PASSES_MIN = 5;
const TIMEOUT_MS = 600_000;
/** No merge begins by itself. */
const NEVER = 10_000;

interface Target {
  readonly compute: string;
  readonly grpcAddr: string;
  readonly pgAddr: string;
  readonly pid: number;
  readonly ttid: TenantTimelineId;
}

/** A layer a round, with new rows and changes all over the table. */
async function makeLayers({ compute, grpcAddr, ttid }: Target, rows: number): Promise<void> {
  using reader = new StorageReader(grpcAddr, ttid);
  for (let round = 0; round < ROUNDS; round++) {
    const text = "md5('a' || i) || md5('b' || i) || md5('c' || i) || md5('d' || i)";
    const first = `(select coalesce(max(id), 0) from compacted)`;
    await query(
      compute,
      `insert into compacted select ${first} + i, 0, ${text} from generate_series(1, ${Math.ceil(rows / ROUNDS)}) i`,
    );
    await query(compute, `update compacted set n = n + 1 where id % ${7 * ROUNDS} = ${round}`);
    await reader.waitIngested(parseLsn(await value(compute, 'select pg_current_wal_flush_lsn()')), TIMEOUT_MS);
    await reader.checkpoint();
  }
}

async function layerBytes({ grpcAddr, ttid }: Target): Promise<number> {
  using reader = new StorageReader(grpcAddr, ttid);
  return Number((await reader.timeline()).physicalSizeBytes);
}

interface Took {
  readonly seconds: number;
  /** Of processor time of the page server. */
  readonly cpuSeconds: number;
}

async function compact(
  { grpcAddr, ttid, pid }: Target,
  what: { forceMerge: boolean; forceImages: boolean },
): Promise<Took> {
  const client = createClient(ManagementServiceClient, grpcAddr);
  const [began, before] = [performance.now(), cpuSeconds(pid)];
  await callUnary(client, client.runCompaction, { ttid: { ...ttid }, ...what }, { deadlineMs: TIMEOUT_MS });
  client.close();
  return { seconds: (performance.now() - began) / 1000, cpuSeconds: cpuSeconds(pid) - before };
}

async function mergeByRequestOnly({ grpcAddr, ttid }: Target): Promise<void> {
  const client = createClient(ManagementServiceClient, grpcAddr);
  const config = { compactionThreshold: NEVER, imageCreationThreshold: NEVER };
  await callUnary(client, client.setTenantConfig, { tenantId: ttid.tenantId, config });
  client.close();
}

/** Reads random pages, the same ones again and again, until `work` ends, and all of them once in any case. */
async function readDuring(target: Target, work: Promise<unknown>): Promise<Float64Array> {
  using load = await PageLoad.open(target.pgAddr, target.ttid);
  const pages = await tablePages(target.compute, 'compacted');
  let isOver = false;
  const over = work.finally(() => (isOver = true));
  const latencies: number[] = [];
  for (let pass = 0; pass < PASSES_MIN || !isOver; pass++) {
    const requests = encodeRequests(shuffle(pages, 1 + (pass % PASSES_MIN)).slice(0, PAGES_A_PASS));
    latencies.push(...(await load.run(requests, IN_FLIGHT)).latenciesUs);
  }
  await over;
  return Float64Array.from(latencies).sort();
}

/** MiB/s of a plain file that is synced at its end. */
async function rawWriteRate(bytes: number): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'bench-raw-'));
  try {
    const chunk = Buffer.alloc(MIB, 0x5a);
    const began = performance.now();
    const file = await open(join(dir, 'raw'), 'w');
    for (let done = 0; done < bytes; done += chunk.length) await file.write(chunk);
    await file.sync();
    await file.close();
    return bytes / MIB / ((performance.now() - began) / 1000);
  } finally {
    await rm(dir, { recursive: true });
  }
}

function latencyLine(what: string, sorted: Float64Array): string {
  const at = (share: number): string => (percentile(sorted, share) / 1000).toFixed(2);
  return `getpage ${what}: ${sorted.length} pages, ${IN_FLIGHT} in flight, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`;
}

function rateLine(what: string, bytes: number, { seconds, cpuSeconds: cpu }: Took): string {
  const mib = bytes / MIB;
  const [rate, cpuMs] = [(mib / seconds).toFixed(1), ((cpu * 1000) / mib).toFixed(1)];
  return `compaction: ${what} at ${rate} MiB/s (${seconds.toFixed(1)} s), processor ${cpuMs} ms/MiB`;
}

/** `profileDir`: where the page server's threads leave profiles; null = they do not. */
export async function benchCompaction(
  stack: TestStack,
  compute: string,
  { scale, profileDir }: { scale: number; profileDir: string | null },
): Promise<string[]> {
  const { tenantId, timelineId } = await stack.compute('main');
  const { grpcAddr, pgAddr, pid } = await stack.service('pageserver');
  const target: Target = { compute, grpcAddr, pgAddr, pid, ttid: parseTtid({ tenantId, timelineId }) };
  await mergeByRequestOnly(target);
  await query(compute, 'create table compacted (id int primary key, n int, text text)');
  const walStart = parseLsn(await value(compute, 'select pg_current_wal_flush_lsn()'));
  await makeLayers(target, scale * ROWS_A_SCALE);

  const wal = parseLsn(await value(compute, 'select pg_current_wal_flush_lsn()')) - walStart;
  const mergedBytes = await layerBytes(target);
  const merge = await compact(target, { forceMerge: true, forceImages: false });
  const before = await layerBytes(target);
  const images = await compact(target, { forceMerge: false, forceImages: true });
  const imageBytes = (await layerBytes(target)) - before;
  const pageBytes = PAGE_BYTES * (await tablePages(compute, 'compacted')).length;
  const raw = await rawWriteRate(mergedBytes);

  await makeLayers(target, scale * ROWS_A_SCALE);
  // The first is to have in the cache what the others will.
  await readDuring(target, Promise.resolve());
  const alone = await readDuring(target, Promise.resolve());
  const both = { forceMerge: true, forceImages: true };
  const during = await readDuring(target, compact(target, both));
  const share = percentile(during, 0.99) / percentile(alone, 0.99);
  const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;
  return [
    rateLine(`merge of ${mib(mergedBytes)} of layers (${mib(wal)} of WAL)`, mergedBytes, merge),
    `  written and synced raw ${raw.toFixed(0)} MiB/s, ratio ${(mergedBytes / MIB / merge.seconds / raw).toFixed(2)}`,
    rateLine(`images of ${mib(pageBytes)} of table (${mib(imageBytes)} stored)`, pageBytes, images),
    latencyLine('without compaction', alone),
    latencyLine('beside compaction', during),
    `getpage p99 beside compaction to p99 without: ${share.toFixed(1)}`,
    ...(profileDir === null ? [] : profileLines(profileDir)),
  ];
}

function profileLines(dir: string): string[] {
  return ['mergeLayers', 'makeImages'].flatMap((job) => [
    `of the threads that ran ${job}:`,
    ...threadProfiles(dir, job, PROFILE_LINES),
  ]);
}
