/** pgbench on both, in turn, so that drift of the machine hits both alike. */
import { pgTool } from '../harness/stack.js';
import { median, spread } from './stats.js';

export interface TpsOptions {
  readonly seconds: number;
  readonly clients: number;
  readonly scale: number;
  readonly rounds: number;
}

async function tps(url: string, kind: '-N' | '-S', clients: number, seconds: number): Promise<number> {
  const text = await pgTool('pgbench', kind, '-n', '-c', String(clients), '-j', '2', '-T', String(seconds), '-d', url);
  return Number(/tps = ([0-9.]+)/.exec(text)?.[1]);
}

export async function benchTps(compute: string, peer: string, options: TpsOptions): Promise<string[]> {
  for (const url of [compute, peer]) await pgTool('pgbench', '-i', '-q', '-s', String(options.scale), '-d', url);
  const lines: string[] = [];
  for (const [kind, name] of [
    ['-N', 'simple-update'],
    ['-S', 'select-only'],
  ] as const) {
    for (const clients of [1, options.clients]) {
      const ours: number[] = [];
      const theirs: number[] = [];
      for (let round = 0; round < options.rounds; round++) {
        ours.push(await tps(compute, kind, clients, options.seconds));
        theirs.push(await tps(peer, kind, clients, options.seconds));
      }
      const ratio = median(ours.map((value, at) => value / (theirs[at] ?? NaN)));
      lines.push(
        `${name} c=${clients}: compute ${spread(ours)} tps, sync standby ${spread(theirs)} tps, ratio ${ratio.toFixed(2)}`,
      );
    }
  }
  return lines;
}
