/**
 * Page reads of a tenant with two shards, once with both shards on one page server and once with a page server each. Pages are read cold
 * and need redo, so that the work is the page servers' and not the client's; each round reads other pages.
 */
import { parseLsn } from '#shared/core/lsn.js';
import { shardOfBlock } from '#shared/core/shard.js';
import { ShardCluster } from '../harness/shard-cluster.js';
import { pgTool, query, value } from '../harness/stack.js';
import { shuffle, tablePages } from './getpage.js';
import { encodeRequests, PageLoad, REQUEST_BYTES } from './page-load.js';
import { percentile, spread } from './stats.js';

const SHARDS = 2;
const STRIPE_BLOCKS = 64;
const IN_FLIGHT = 32;
const UPDATE_ROUNDS = 8;
const TIMEOUT_MS = 300_000;

interface Round {
  readonly pagesPerSecond: number;
  readonly p99Us: number;
}

/** One connection a shard, all at once. */
async function readAll(shards: readonly { addr: string; requests: Buffer }[], loads: PageLoad[]): Promise<Round> {
  const began = performance.now();
  const results = await Promise.all(shards.map(({ requests }, shard) => loads[shard]!.run(requests, IN_FLIGHT)));
  const seconds = (performance.now() - began) / 1000;
  const count = results.reduce((sum, result) => sum + result.count, 0);
  return {
    pagesPerSecond: count / seconds,
    p99Us: Math.max(...results.map(({ latenciesUs }) => percentile(latenciesUs, 0.99))),
  };
}

async function measure(pageservers: number, scale: number, rounds: number): Promise<Round[]> {
  await using cluster = await ShardCluster.start({ pageservers, shards: SHARDS, stripeBlocks: STRIPE_BLOCKS });
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
  const shards = cluster.shardAddrs().map(({ addr, ttid }, shard) => {
    const own = pages.filter(({ rel, block }) => {
      return shardOfBlock({ count: SHARDS, stripeBlocks: STRIPE_BLOCKS }, rel.rel, block) === shard;
    });
    return { addr, ttid, requests: encodeRequests(own) };
  });
  const loads = await Promise.all(shards.map(({ addr, ttid }) => PageLoad.open(addr, ttid)));
  const results: Round[] = [];
  // The first part warms the code up.
  for (let round = 0; round <= rounds; round++) {
    const part = shards.map(({ addr, requests }) => {
      const count = Math.floor(requests.length / REQUEST_BYTES / (rounds + 1));
      const from = round * count * REQUEST_BYTES;
      return { addr, requests: requests.subarray(from, from + count * REQUEST_BYTES) };
    });
    const result = await readAll(part, loads);
    if (round > 0) results.push(result);
  }
  for (const load of loads) load[Symbol.dispose]();
  return results;
}

export async function benchScaleOut(scale: number, rounds: number): Promise<string[]> {
  const one = await measure(1, scale, rounds);
  const two = await measure(2, scale, rounds);
  const rates = (results: Round[]) => results.map(({ pagesPerSecond }) => pagesPerSecond);
  const latencies = (results: Round[]) => results.map(({ p99Us }) => p99Us);
  const middle = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? NaN;
  return [
    `getpage of ${SHARDS} shards, redo, ${IN_FLIGHT} in flight each: one page server ${spread(rates(one))}/s, p99 ${spread(latencies(one))} us; ` +
      `two ${spread(rates(two))}/s, p99 ${spread(latencies(two))} us; ratio ${(middle(rates(two)) / middle(rates(one))).toFixed(2)}`,
  ];
}
