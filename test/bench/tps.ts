/** pgbench on all servers in turn, so that drift of the machine hits all alike: throughput, and the latency of single transactions. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pgTool } from '../harness/stack.js';
import { median, spread } from './stats.js';

export interface TpsOptions {
  readonly seconds: number;
  /** Sessions at a time, one measurement for each. */
  readonly clients: readonly number[];
  readonly scale: number;
  readonly rounds: number;
}

export interface TpsServer {
  readonly name: string;
  readonly url: string;
}

interface Measured {
  readonly tps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const KINDS = [
  ['-N', 'simple-update'],
  ['-S', 'select-only'],
] as const;

async function measure(url: string, kind: '-N' | '-S', clients: number, seconds: number): Promise<Measured> {
  const dir = await mkdtemp(join(tmpdir(), 'neon-bench-'));
  try {
    const log = ['-l', '--log-prefix', join(dir, 'log')];
    const load = ['-n', '-c', String(clients), '-j', '2', '-T', String(seconds)];
    const text = await pgTool('pgbench', kind, ...load, ...log, '-d', url);
    const latencies: number[] = [];
    for (const name of await readdir(dir)) {
      // Columns: client, transaction, microseconds, script, time.
      for (const line of (await readFile(join(dir, name), 'utf8')).split('\n')) {
        if (line !== '') latencies.push(Number(line.split(' ')[2]) / 1000);
      }
    }
    latencies.sort((a, b) => a - b);
    const at = (share: number) => latencies[Math.floor((latencies.length - 1) * share)] ?? NaN;
    return { tps: Number(/tps = ([0-9.]+)/.exec(text)?.[1]), p50Ms: at(0.5), p99Ms: at(0.99) };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** `peers`: what the compute is compared with. */
export async function benchTps(compute: string, peers: readonly TpsServer[], options: TpsOptions): Promise<string[]> {
  const servers = [{ name: 'compute', url: compute }, ...peers];
  for (const { url } of servers) await pgTool('pgbench', '-i', '-q', '-s', String(options.scale), '-d', url);
  const lines: string[] = [];
  for (const [kind, title] of KINDS) {
    for (const clients of options.clients) {
      const results = new Map<string, Measured[]>(servers.map(({ name }) => [name, []]));
      for (let round = 0; round < options.rounds; round++) {
        for (const { name, url } of servers) {
          results.get(name)?.push(await measure(url, kind, clients, options.seconds));
        }
      }
      const ours = results.get('compute') ?? [];
      for (const [name, measured] of results) {
        const ratio = median(ours.map(({ tps }, at) => tps / (measured[at]?.tps ?? NaN)));
        const [p50, p99] = [median(measured.map((one) => one.p50Ms)), median(measured.map((one) => one.p99Ms))];
        const tps = spread(measured.map((one) => one.tps));
        const against = name === 'compute' ? '' : `, compute against it: ratio ${ratio.toFixed(2)}`;
        lines.push(
          `${title} c=${clients}, ${name}: ${tps} tps, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms${against}`,
        );
      }
    }
  }
  return lines;
}
