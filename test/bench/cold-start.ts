/** How long a compute takes from spec to first query, step by step, beside an ordinary start of a plain server. */
import { ComputeServiceClient } from '#gen/neon/compute/v1/compute.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { query } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { median, spread } from './stats.js';

/** Node and loading until the spec was read, then what overlaps: see StartTimings in compute.proto. */
const STEPS = ['waitForSpecMs', 'syncSafekeepersMs', 'basebackupMs', 'startPostgresMs', 'configMs', 'totalMs'] as const;

export async function benchColdStart(stack: TestStack, plain: TempCluster, rounds: number): Promise<string[]> {
  const timings = new Map<string, number[]>();
  const add = (name: string, value: number) => timings.set(name, [...(timings.get(name) ?? []), value]);
  for (let round = 0; round < rounds; round++) {
    await stack.neon('pg', 'stop', 'main');
    const began = performance.now();
    const url = await stack.neon('pg', 'start', 'main');
    add('neon pg start', performance.now() - began);
    await query(url, 'select 1');
    add('to first query', performance.now() - began);
    const { grpcAddr } = await stack.compute('main');
    const client = createClient(ComputeServiceClient, grpcAddr);
    const status = await callUnary(client, client.getStatus, {});
    client.close();
    for (const step of STEPS) add(step, status.timings?.[step] ?? NaN);
    await plain.stop('fast');
    const plainBegan = performance.now();
    await plain.start();
    add('plain server start', performance.now() - plainBegan);
  }
  const lines = [...timings].map(([name, values]) => `cold start, ${name}: ${spread(values, 1)} ms`);
  const ratio = median(timings.get('totalMs') ?? []) / median(timings.get('plain server start') ?? []);
  return [...lines, `cold start of a compute against a plain server's start: ratio ${ratio.toFixed(1)}`];
}
