/**
 * Compaction: how fast many small layers become few, and how fast images are made, in bytes of layer files; and what it does to page
 * reads that go on meanwhile. The peer is a file of as many bytes, written and synced on the same disk.
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
import { pgTool, query, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { shuffle, tablePages } from './getpage.js';
import { encodeRequests, PageLoad } from './page-load.js';
import { percentile } from './stats.js';

const MIB = 1 << 20;
const ROUNDS = 8;
const IN_FLIGHT = 4;
const PAGES_A_PASS = 2_000;
const PASSES_MIN = 5;
const TIMEOUT_MS = 600_000;
/** No merge begins by itself. */
const NEVER = 10_000;

interface Target {
  readonly stack: TestStack;
  readonly compute: string;
  readonly grpcAddr: string;
  readonly pgAddr: string;
  readonly ttid: TenantTimelineId;
}

/** Layers of a few MiB each, all over the key space. */
async function makeLayers({ compute, grpcAddr, ttid }: Target): Promise<void> {
  using reader = new StorageReader(grpcAddr, ttid);
  for (let round = 0; round < ROUNDS; round++) {
    await query(compute, `update pgbench_accounts set abalance = abalance + 1 where aid % ${7 * ROUNDS} = ${round}`);
    await reader.waitIngested(parseLsn(await value(compute, 'select pg_current_wal_flush_lsn()')), TIMEOUT_MS);
    await reader.checkpoint();
  }
}

async function layerBytes({ grpcAddr, ttid }: Target): Promise<number> {
  using reader = new StorageReader(grpcAddr, ttid);
  return Number((await reader.timeline()).physicalSizeBytes);
}

/** Seconds that it took. */
async function compact(
  { grpcAddr, ttid }: Target,
  what: { forceMerge: boolean; forceImages: boolean },
): Promise<number> {
  const client = createClient(ManagementServiceClient, grpcAddr);
  const began = performance.now();
  await callUnary(client, client.runCompaction, { ttid: { ...ttid }, ...what }, { deadlineMs: TIMEOUT_MS });
  client.close();
  return (performance.now() - began) / 1000;
}

async function mergeByRequestOnly({ grpcAddr, ttid }: Target): Promise<void> {
  const client = createClient(ManagementServiceClient, grpcAddr);
  const config = { compactionThreshold: NEVER, imageCreationThreshold: NEVER };
  await callUnary(client, client.setTenantConfig, { tenantId: ttid.tenantId, config });
  client.close();
}

/** Reads random pages until `work` ends, and some in any case. */
async function readDuring(target: Target, work: Promise<unknown>): Promise<Float64Array> {
  using load = await PageLoad.open(target.pgAddr, target.ttid);
  const pages = await tablePages(target.compute, 'pgbench_accounts');
  let isOver = false;
  const over = work.finally(() => (isOver = true));
  const latencies: number[] = [];
  for (let pass = 0; pass < PASSES_MIN || !isOver; pass++) {
    const requests = encodeRequests(shuffle(pages, pass + 1).slice(0, PAGES_A_PASS));
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

export async function benchCompaction(stack: TestStack, compute: string, scale: number): Promise<string[]> {
  const { tenantId, timelineId } = await stack.compute('main');
  const { grpcAddr, pgAddr } = await stack.service('pageserver');
  const target: Target = { stack, compute, grpcAddr, pgAddr, ttid: parseTtid({ tenantId, timelineId }) };
  await mergeByRequestOnly(target);
  await pgTool('pgbench', '-i', '-q', '-s', String(scale), '-d', compute);
  await makeLayers(target);

  const mergedBytes = await layerBytes(target);
  const mergeRate = mergedBytes / MIB / (await compact(target, { forceMerge: true, forceImages: false }));
  const before = await layerBytes(target);
  const imageSeconds = await compact(target, { forceMerge: false, forceImages: true });
  const imageBytes = (await layerBytes(target)) - before;
  const raw = await rawWriteRate(mergedBytes);

  await makeLayers(target);
  const alone = await readDuring(target, Promise.resolve());
  const both = { forceMerge: true, forceImages: true };
  const during = await readDuring(target, compact(target, both));
  const share = percentile(during, 0.99) / percentile(alone, 0.99);
  return [
    `compaction: merge of ${(mergedBytes / MIB).toFixed(0)} MiB of layers ${mergeRate.toFixed(1)} MiB/s, ` +
      `written and synced raw ${raw.toFixed(0)} MiB/s, ratio ${(mergeRate / raw).toFixed(2)}`,
    `compaction: ${(imageBytes / MIB).toFixed(0)} MiB of images ${(imageBytes / MIB / imageSeconds).toFixed(1)} MiB/s`,
    latencyLine('without compaction', alone),
    latencyLine('beside compaction', during),
    `getpage p99 beside compaction to p99 without: ${share.toFixed(1)}`,
  ];
}
