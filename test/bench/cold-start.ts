/**
 * How long a compute takes to its first query, beside a plain server that starts and answers one:
 *
 *   from spec       a compute_ctl that waits for a spec, as a pool keeps them, gets one by /configure
 *   from process    a compute_ctl is started with its spec
 *   through connect a suspended compute is resumed by a client of the connect port, in a new psql
 *
 * All clients but psql are in this process, which is warm.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ComputeServiceClient, TerminateMode } from '#gen/neon/compute/v1/compute.js';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { parseReadyLine } from '#shared/runtime/ready.js';
import { query, sleep, until } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import { median, spread } from './stats.js';

const MAIN = resolve(import.meta.dirname, '../../build/services/compute-ctl/main.js');
/** Node and loading until the spec was read, then what overlaps: see StartTimings in compute.proto. */
const STEPS = ['syncSafekeepersMs', 'basebackupMs', 'startPostgresMs', 'totalMs'] as const;
const SETTLE_MS = 500;
const PROCESS_ROUNDS = 5;

export async function benchColdStart(stack: TestStack, plain: TempCluster, rounds: number): Promise<string[]> {
  const timings = new Timings();
  await query((await stack.compute('main')).url, 'CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS a');
  const specText = await readFile(join(stack.repoDir, 'computes/main/spec.json'), 'utf8');
  await stack.stopCompute('main');
  for (let round = 0; round < rounds; round++) {
    await startPlain(plain, timings);
    await startFromSpec(stack, specText, timings);
  }
  for (let round = 0; round < Math.min(rounds, PROCESS_ROUNDS); round++) {
    await startFromProcess(stack, timings);
    await resume(stack, timings);
  }
  const ratio = timings.median('from spec') / timings.median('plain server');
  return [...timings.lines(), `cold start from spec against a plain server: ratio ${ratio.toFixed(1)}`];
}

class Timings {
  private readonly all = new Map<string, number[]>();

  add(name: string, value: number): void {
    this.all.set(name, [...(this.all.get(name) ?? []), value]);
  }

  median(name: string): number {
    return median(this.all.get(name) ?? []);
  }

  lines(): string[] {
    return [...this.all].map(([name, values]) => `cold start, ${name}: ${spread(values)} ms (${values.length} times)`);
  }
}

async function startPlain(plain: TempCluster, timings: Timings): Promise<void> {
  await plain.stop('fast');
  await sleep(SETTLE_MS);
  const began = performance.now();
  await plain.start();
  await query(`postgresql://cloud_admin@127.0.0.1:${plain.port}/postgres`, 'SELECT 1');
  timings.add('plain server', performance.now() - began);
}

async function startFromSpec(stack: TestStack, specJson: string, timings: Timings): Promise<void> {
  const dir = join(stack.repoDir, 'waiting');
  await mkdir(dir, { recursive: true });
  await chmod(dir, 0o711);
  const log = openSync(join(stack.repoDir, 'logs/waiting.log'), 'a');
  const args = ['--pgdata', join(dir, 'pgdata'), '--pgbin', join(PG_BIN, 'postgres')];
  const listen = ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'];
  const child = spawn(process.execPath, [MAIN, ...args, ...listen], {
    stdio: ['pipe', 'pipe', log],
    env: { ...process.env, NEON_EXIT_WITH_PARENT: '1' },
  });
  closeSync(log);
  const client = createClient(ComputeServiceClient, await grpcAddrOf(child));
  await callUnary(client, client.getStatus, {});
  await sleep(SETTLE_MS);
  const began = performance.now();
  await callUnary(client, client.configure, { specJson });
  await query(urlOf(specJson), 'SELECT a FROM t');
  timings.add('from spec', performance.now() - began);
  const status = await callUnary(client, client.getStatus, {});
  for (const step of STEPS) timings.add(`from spec, ${step}`, status.timings?.[step] ?? NaN);
  const ended = once(child, 'exit');
  await callUnary(client, client.terminate, { mode: TerminateMode.IMMEDIATE });
  client.close();
  await ended;
}

async function grpcAddrOf(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no output');
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return parseReadyLine(line)?.grpc ?? '';
}

function urlOf(specJson: string): string {
  const spec = JSON.parse(specJson) as { cluster: { settings: { name: string; value: string }[] } };
  const port = spec.cluster.settings.find(({ name }) => name === 'port')?.value;
  return `postgresql://cloud_admin@127.0.0.1:${port}/postgres`;
}

/** The daemon's spare is not there yet right after its last start. */
async function startFromProcess(stack: TestStack, timings: Timings): Promise<void> {
  await stack.startAgain('main');
  await stack.stopCompute('main');
  const began = performance.now();
  const url = await stack.startAgain('main');
  await query(url, 'SELECT a FROM t');
  timings.add('from process', performance.now() - began);
  await stack.stopCompute('main');
}

async function resume(stack: TestStack, timings: Timings): Promise<void> {
  await until('a spare', 30_000, async () => {
    return (await readFile(join(stack.repoDir, 'run/compute-spare.pid'), 'utf8').catch(() => '')) !== '';
  });
  await sleep(2_000);
  const [host = '', port = ''] = (await stack.status()).connectAddr.split(':');
  const target = `host=${host} port=${port} user=cloud_admin dbname=postgres options=branch=main sslmode=disable`;
  const began = performance.now();
  await promisify(execFile)(join(PG_BIN, 'psql'), ['-XAtc', 'SELECT a FROM t', target]);
  timings.add('through connect', performance.now() - began);
  const again = performance.now();
  await promisify(execFile)(join(PG_BIN, 'psql'), ['-XAtc', 'SELECT a FROM t', target]);
  timings.add('through connect, while it runs', performance.now() - again);
  await stack.stopCompute('main');
}
