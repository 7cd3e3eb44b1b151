/**
 * Page reads: rate, latency and CPU of the page server for pages that are cached, that lie in an image layer, and that need redo, at
 * several requests in flight, beside a server that answers as many bytes without doing anything for them.
 *
 * The table is read in a random order, every page once for each number in flight (a third of the table each), so that a page that was
 * not in the cache is not there for the next measurement either; the page server is started anew before each kind.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseLsn } from '#shared/core/lsn.js';
import { cpuSeconds } from '../harness/processes.js';
import { StorageReader } from '../harness/storage-reader.js';
import { pgTool, query, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { profiled } from './cpu-profile.js';
import { encodeRequests, PageLoad } from './page-load.js';
import { percentile } from './stats.js';
import type { LoadResult, PageRef } from './page-load.js';

const IN_FLIGHT = [1, 16, 64];
/** Each page gets this many records above its image. */
const UPDATE_ROUNDS = 8;
const CACHED_PAGES = 2000;
const CACHED_PASSES = 5;
const TIMEOUT_MS = 300_000;

const PROFILE_LINES = 25;

interface Server {
  readonly addr: string;
  readonly ttid: TenantTimelineId | null;
  readonly pid: number;
  readonly logPath?: string;
}

interface Measured extends LoadResult {
  readonly inFlight: number;
  readonly cpuUs: number;
}

async function measure(server: Server, requests: Buffer, inFlight: number): Promise<Measured> {
  using load = await PageLoad.open(server.addr, server.ttid);
  const before = cpuSeconds(server.pid);
  const result = await load.run(requests, inFlight);
  return { ...result, inFlight, cpuUs: ((cpuSeconds(server.pid) - before) * 1e6) / result.count };
}

export async function startEcho(): Promise<Server & AsyncDisposable> {
  const script = new URL('./echo-server.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, ['--conditions=source', '--import', 'tsx', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [port] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return {
    addr: `127.0.0.1:${port}`,
    ttid: null,
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

export function shuffle<T>(values: readonly T[], seed: number): T[] {
  const out = [...values];
  let state = seed;
  for (let i = out.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

/** All pages of a table's main fork. */
export async function tablePages(compute: string, table: string): Promise<PageRef[]> {
  const sql = `select oid, pg_relation_filenode('${table}'), pg_relation_size('${table}') / 8192 from pg_database where datname = current_database()`;
  const [db = 0, rel = 0, blocks = 0] = ((await query(compute, sql))[0] ?? []).map(Number);
  return Array.from({ length: blocks }, (_, block) => ({ rel: { spc: 1663, db, rel, fork: 0 }, block }));
}

function describe(kind: string, ours: Measured, echo: Measured): string {
  const rate = (result: LoadResult) => result.count / result.seconds;
  const at = (share: number) => percentile(ours.latenciesUs, share).toFixed(0);
  return (
    `getpage ${kind} in flight ${ours.inFlight}: ${rate(ours).toFixed(0)}/s, p50 ${at(0.5)} us, p99 ${at(0.99)} us, ` +
    `CPU ${ours.cpuUs.toFixed(1)} us a page; echo ${rate(echo).toFixed(0)}/s, CPU ${echo.cpuUs.toFixed(1)} us; ` +
    `ratio ${(rate(ours) / rate(echo)).toFixed(2)}`
  );
}

/** A fresh process with nothing in its caches, and all WAL in layer files. */
async function restart(stack: TestStack, ttid: TenantTimelineId, at: string, images: boolean): Promise<Server> {
  const old = await stack.service('pageserver');
  using reader = new StorageReader(old.grpcAddr, ttid);
  await reader.waitIngested(parseLsn(at), TIMEOUT_MS);
  await reader.checkpoint();
  if (images) {
    const url = `http://${old.httpAddr}/v1/tenant/${ttid.tenantId}/timeline/${ttid.timelineId}/compact`;
    const flags = 'force_l0_compaction=true&force_image_layer_creation=true';
    const response = await fetch(`${url}?${flags}`, { method: 'PUT', signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`compaction failed: ${await response.text()}`);
  }
  await stack.killService('pageserver');
  const { pgAddr, pid, grpcAddr } = await stack.waitRestarted('pageserver', old.restartCount + 1);
  using fresh = new StorageReader(grpcAddr, ttid);
  await fresh.waitIngested(parseLsn(at), TIMEOUT_MS);
  return { addr: pgAddr, ttid, pid, logPath: join(stack.repoDir, 'logs', 'pageserver.log') };
}

interface Servers {
  readonly server: Server;
  readonly echo: Server;
  readonly profile: boolean;
}

async function measureKind(kind: string, servers: Servers, pages: readonly PageRef[]): Promise<string[]> {
  const lines: string[] = [];
  const share = Math.floor(pages.length / IN_FLIGHT.length);
  for (const [i, inFlight] of IN_FLIGHT.entries()) {
    const requests = encodeRequests(pages.slice(i * share, (i + 1) * share));
    const ours = await measureOurs(servers, requests, inFlight, lines);
    lines.push(describe(kind, ours, await measure(servers.echo, requests, inFlight)));
  }
  return lines;
}

async function measureOurs(
  { server, profile }: Servers,
  requests: Buffer,
  inFlight: number,
  lines: string[],
): Promise<Measured> {
  const { logPath } = server;
  if (!profile || logPath === undefined) return measure(server, requests, inFlight);
  const target = { pid: server.pid, logPath };
  const found = await profiled(target, PROFILE_LINES, () => measure(server, requests, inFlight));
  lines.push(...found.lines);
  return found.result;
}

async function measureCached(server: Server, echo: Server, pages: readonly PageRef[]): Promise<string[]> {
  const some = pages.slice(0, CACHED_PAGES);
  await measure(server, encodeRequests(some), 16);
  const lines: string[] = [];
  for (const inFlight of IN_FLIGHT) {
    const requests = encodeRequests(Array.from({ length: CACHED_PASSES }, () => some).flat());
    const ours = await measure(server, requests, inFlight);
    lines.push(describe('cached', ours, await measure(echo, requests, inFlight)));
  }
  return lines;
}

/** `profile`: also where the CPU goes; rates are lower then. */
export async function benchGetPage(
  stack: TestStack,
  compute: string,
  { scale, profile }: { scale: number; profile: boolean },
): Promise<string[]> {
  await using echo = await startEcho();
  await pgTool('pgbench', '-i', '-q', '-s', String(scale), '-d', compute);
  const { tenantId, timelineId } = await stack.compute('main');
  const ttid = parseTtid({ tenantId, timelineId });
  const head = () => value(compute, 'select pg_current_wal_flush_lsn()');
  const pages = shuffle(await tablePages(compute, 'pgbench_accounts'), 1);
  const server = await restart(stack, ttid, await head(), true);
  const servers = { server, echo, profile };
  const lines = await measureKind('from image layer', servers, pages);
  lines.push(...(await measureCached(server, echo, pages)));
  for (let round = 0; round < UPDATE_ROUNDS; round++) {
    await query(compute, `update pgbench_accounts set abalance = abalance + 1 where aid % 61 = ${round}`);
  }
  const updated = await restart(stack, ttid, await head(), false);
  lines.push(
    ...(await measureKind(`redo of ${UPDATE_ROUNDS} records or more`, { server: updated, echo, profile }, pages)),
  );
  return lines;
}
