/**
 * Page reads of a tenant with two shards, once with both shards on one page server and once with a page server each. Pages are read cold
 * and need redo, so that the work is the page servers' and not the client's; each round reads other pages.
 */
import { cpuSeconds } from '../harness/processes.js';
import { parseLsn } from '#shared/core/lsn.js';
import { shardOfBlock } from '#shared/core/shard.js';
import { ShardCluster } from '../harness/shard-cluster.js';
import { pgTool, query, value } from '../harness/stack.js';
import { shuffle, tablePages } from './getpage.js';
import { encodeRequests, PageLoad, REQUEST_BYTES } from './page-load.js';
import type { PageRef } from './page-load.js';
import { profiled } from './cpu-profile.js';
import { median, percentile, spread } from './stats.js';

const SHARDS = 2;
const STRIPE_BLOCKS = 64;
const IN_FLIGHT = 32;
/** Each page gets this many records above its image. */
const UPDATE_ROUNDS = 24;
const TIMEOUT_MS = 300_000;
const PROFILE_LINES = 16;

interface Round {
  readonly pagesPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Of each process in this round: what part of a core it used. */
  readonly serverCores: readonly number[];
  readonly clientCores: number;
}

interface Options {
  readonly scale: number;
  readonly rounds: number;
  /** One more round, with what took the first page server's main thread. */
  readonly profile: boolean;
}

interface ShardLoad {
  readonly load: PageLoad;
  readonly requests: Buffer;
}

/** One connection a shard, all at once. */
async function readAll(shards: readonly ShardLoad[], pids: readonly number[]): Promise<Round> {
  const used = (): number[] => [...pids, process.pid].map(cpuSeconds);
  const [began, before] = [performance.now(), used()];
  const results = await Promise.all(shards.map(({ load, requests }) => load.run(requests, IN_FLIGHT)));
  const seconds = (performance.now() - began) / 1000;
  const cores = used().map((after, i) => (after - before[i]!) / seconds);
  const count = results.reduce((sum, result) => sum + result.count, 0);
  const worst = (share: number): number => Math.max(...results.map((each) => percentile(each.latenciesUs, share)));
  return {
    pagesPerSecond: count / seconds,
    p50Us: worst(0.5),
    p99Us: worst(0.99),
    serverCores: cores.slice(0, -1),
    clientCores: cores.at(-1)!,
  };
}

interface Measured {
  readonly rounds: Round[];
  readonly profile: string[];
}

/** Pages of a table that was updated all over, in a random order, and page servers that were just started. */
async function prepare(cluster: ShardCluster, scale: number): Promise<PageRef[]> {
  const { url, service } = await cluster.startCompute('load', { shared_buffers: '128MB' });
  await pgTool('pgbench', '-i', '-q', '-s', String(scale), '-d', url);
  for (let round = 0; round < UPDATE_ROUNDS; round++) {
    await query(url, `update pgbench_accounts set abalance = abalance + 1 where aid % 61 = ${round}`);
  }
  const end = parseLsn(await value(url, 'select pg_current_wal_flush_lsn()'));
  const pages = shuffle(await tablePages(url, 'pgbench_accounts'), 1);
  service.kill('SIGTERM');
  await service.exited();
  using reader = cluster.reader();
  await reader.waitIngested(end, TIMEOUT_MS);
  await reader.checkpoint();
  for (const [index, pageserver] of cluster.pageservers.entries()) {
    pageserver.kill('SIGKILL');
    await pageserver.exited();
    await cluster.startPageserver(index);
  }
  return pages;
}

async function measure(pageservers: number, { scale, rounds, profile }: Options): Promise<Measured> {
  await using cluster = await ShardCluster.start({ pageservers, shards: SHARDS, stripeBlocks: STRIPE_BLOCKS });
  const pages = await prepare(cluster, scale);
  const pids = cluster.pageservers.map(({ child }) => child.pid ?? 0);
  const shards = cluster.shardAddrs().map(({ addr, ttid }, shard) => {
    const own = pages.filter(({ rel, block }) => {
      return shardOfBlock({ count: SHARDS, stripeBlocks: STRIPE_BLOCKS }, rel.rel, block) === shard;
    });
    return { addr, ttid, requests: encodeRequests(own) };
  });
  const loads = await Promise.all(shards.map(({ addr, ttid }) => PageLoad.open(addr, ttid)));
  // The first part warms the code up.
  const parts = 1 + rounds + (profile ? 1 : 0);
  const part = (n: number): ShardLoad[] =>
    shards.map(({ requests }, shard) => {
      const bytes = Math.floor(requests.length / REQUEST_BYTES / parts) * REQUEST_BYTES;
      return { load: loads[shard]!, requests: requests.subarray(n * bytes, (n + 1) * bytes) };
    });
  const results: Round[] = [];
  for (let n = 0; n <= rounds; n++) results.push(await readAll(part(n), pids));
  const [first] = cluster.pageservers;
  const target = { pid: pids[0]!, logPath: first!.logPath };
  const found = profile ? await profiled(target, PROFILE_LINES, () => readAll(part(rounds + 1), pids)) : null;
  for (const load of loads) load[Symbol.dispose]();
  return { rounds: results.slice(1), profile: found?.lines ?? [] };
}

function line(what: string, rounds: readonly Round[]): string {
  const of = (get: (round: Round) => number, digits = 0): string => spread(rounds.map(get), digits);
  const servers = rounds[0]!.serverCores.map((_, i) => of((round) => round.serverCores[i]!, 2));
  return (
    `getpage of ${SHARDS} shards, redo of ${UPDATE_ROUNDS} records, ${IN_FLIGHT} in flight each, ${what}: ` +
    `${of((round) => round.pagesPerSecond)}/s, p50 ${of((round) => round.p50Us)} us, p99 ${of((round) => round.p99Us)} us, ` +
    `cores used by page servers ${servers.join(' and ')}, by the client ${of((round) => round.clientCores, 2)}`
  );
}

export async function benchScaleOut(options: Options): Promise<string[]> {
  const one = await measure(1, options);
  const two = await measure(2, options);
  const rate = ({ rounds }: Measured): number => median(rounds.map(({ pagesPerSecond }) => pagesPerSecond));
  return [
    line('one page server', one.rounds),
    ...one.profile,
    line('two page servers', two.rounds),
    ...two.profile,
    `pages/s of two page servers to those of one: ratio ${(rate(two) / rate(one)).toFixed(2)}`,
  ];
}
