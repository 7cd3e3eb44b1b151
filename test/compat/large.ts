/**
 * A database of a gigabyte with 1 MB of buffers: filled, dumped, restored, pgbench -i -s 100 and a run of it; then the compute is thrown
 * away. The same steps on a plain server, one server at a time so that times compare; contents must be equal and amcheck clean.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ServerPair, urlOf } from '../differential/servers.js';
import type { Side } from '../differential/servers.js';
import { amcheck } from '../harness/plain.js';
import { pgTool, query } from '../harness/stack.js';
import { digestDatabase } from './digest.js';
import { mebibytes, measured, peakMemoryBytes } from './measure.js';
import type { Cost, Watched } from './measure.js';

const LOAD = join(import.meta.dirname, 'large-load.sql');

export interface LargeOptions {
  /** Of pgbench, 15 MB each; the dumped database has about 10 MB for each. */
  readonly scale: number;
  /** Which of `pgbench` and `dump` are run. */
  readonly parts: RegExp;
  readonly settings: Readonly<Record<string, string>>;
  readonly workDir: string;
  readonly say: (line: string) => void;
}

/** Differences found; empty when there are none. */
export async function runLarge(options: LargeOptions): Promise<string[]> {
  await using pair = await ServerPair.start({ settings: options.settings });
  const run = new LargeRun(pair, options);
  try {
    await run.all();
  } catch (error) {
    options.say(await pair.stack.logs());
    throw error;
  }
  return run.problems;
}

class LargeRun {
  readonly problems: string[] = [];
  private readonly pair: ServerPair;
  private readonly options: LargeOptions;

  constructor(pair: ServerPair, options: LargeOptions) {
    this.pair = pair;
    this.options = options;
  }

  async all(): Promise<void> {
    const { parts, say } = this.options;
    for (const { name } of this.pair.sides) await mkdir(join(this.options.workDir, name));
    if (parts.test('pgbench')) await this.pgbench();
    if (parts.test('dump')) await this.dump();
    for (const { name, pid } of (await this.pair.stack.status()).services)
      say(`most memory of ${name}: ${mebibytes(await peakMemoryBytes(pid))}`);
  }

  private async pgbench(): Promise<void> {
    const scale = String(this.options.scale);
    await this.step(`pgbench -i -s ${scale}`, async (side) => {
      await query(urlOf(side, 'postgres'), 'create database bench');
      await pgTool('pgbench', '-i', '-q', '-s', scale, '-d', urlOf(side, 'bench'));
    });
    await this.step('pgbench -t 2000', (side) => this.transactions(urlOf(side, 'bench')));
    await this.judge(['bench']);
  }

  private async dump(): Promise<void> {
    await this.step(`fill ${this.options.scale * 10} MB`, (side) => this.fill(side));
    await this.step('pg_dump -Fc', (side) =>
      pgTool('pg_dump', '-Fc', '-Z1', '-f', this.dumpFile(side), '-d', urlOf(side, 'large')),
    );
    await this.step('pg_restore -j 4', async (side) => {
      await query(urlOf(side, 'postgres'), 'create database restored');
      await pgTool('pg_restore', '-j', '4', '-d', urlOf(side, 'restored'), this.dumpFile(side));
    });
    await this.step('vacuum full, cluster, reindex', (side) => this.rewrite(side));
    await this.judge(['large', 'restored']);
  }

  /** Contents, sizes, then again what a new compute makes of it. */
  private async judge(databases: readonly string[]): Promise<void> {
    await this.sameContents(databases, '');
    await this.sizes(databases);
    await this.pair.restart('immediate');
    this.options.say('the compute was killed and thrown away; a new one started');
    await this.sameContents(databases, ' after a restart');
    await this.step('amcheck', async (side) => {
      for (const database of databases) await amcheck(urlOf(side, database));
    });
  }

  /** One session with a seed: both servers do the same, but for the times that it writes down. */
  private async transactions(url: string): Promise<void> {
    await pgTool('pgbench', '-n', '-c', '1', '-t', '2000', '--random-seed=7', '-d', url);
    await query(url, 'alter table pgbench_history drop column mtime');
  }

  private async fill(side: Side): Promise<void> {
    await query(urlOf(side, 'postgres'), 'create database large');
    const { scale } = this.options;
    const variables = ['-v', `scale=${scale}`, '-v', `rows=${scale * 6000}`];
    const args = ['-X', '-q', '-v', 'ON_ERROR_STOP=1', ...variables, '-f', LOAD];
    await pgTool('psql', ...args, '-d', urlOf(side, 'large'));
  }

  private async rewrite(side: Side): Promise<void> {
    const url = urlOf(side, 'restored');
    for (const sql of [
      'vacuum full orders',
      'cluster documents using documents_pkey',
      'reindex table concurrently places',
      'alter table files alter id type bigint',
      'vacuum (analyze)',
    ])
      await query(url, sql);
  }

  /** The same on both, the plain server first; prints what it took. */
  private async step(name: string, act: (side: Side) => Promise<unknown>): Promise<void> {
    const costs: Cost[] = [];
    for (const side of this.pair.sides) costs.push(await measured(this.watched(side), () => act(side)));
    const [plain, compute] = costs;
    if (plain === undefined || compute === undefined) return;
    this.options.say(
      `${name.padEnd(32)} ${versus(plain.seconds, compute.seconds)} s; processor ` +
        `${versus(plain.cpuSeconds, compute.cpuSeconds)} s; local disk of the compute ${mebibytes(compute.diskBytesMax)}`,
    );
  }

  private async sameContents(databases: readonly string[], when: string): Promise<void> {
    for (const database of databases) {
      const texts: string[] = [];
      await this.step(`digest of ${database}${when}`, async (side) => {
        const { text, rows, bytes } = await digestDatabase(urlOf(side, database));
        texts.push(`${text} ${rows} rows ${bytes} bytes`);
      });
      if (texts[0] === texts[1]) this.options.say(`${database}${when}: equal, ${texts[0] ?? ''}`);
      else this.problems.push(`${database}${when}: plain ${texts[0] ?? ''}, compute ${texts[1] ?? ''}`);
    }
  }

  private async sizes(databases: readonly string[]): Promise<void> {
    for (const database of databases) {
      const texts: string[] = [];
      for (const side of this.pair.sides) {
        const rows = await query(urlOf(side, 'postgres'), `select pg_size_pretty(pg_database_size('${database}'))`);
        texts.push(rows[0]?.[0] ?? '');
      }
      this.options.say(`size of ${database}: plain ${texts[0] ?? ''}, compute ${texts[1] ?? ''}`);
    }
  }

  private dumpFile(side: Side): string {
    return join(this.options.workDir, side.name, 'large.dump');
  }

  private watched(side: Side): Watched {
    if (side.name === 'compute') return { pid: this.pair.stack.pid, dir: this.pair.computePagesDir };
    return { pid: this.pair.plain.cluster.pid ?? 0 };
  }
}

function versus(plain: number, compute: number): string {
  return `plain ${plain.toFixed(1)} compute ${compute.toFixed(1)} ratio ${(compute / plain).toFixed(2)}`;
}
