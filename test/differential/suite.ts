/**
 * The whole comparison: every script on both servers, then the contents of both, then again after the compute was thrown away.
 *
 *   scripts/NAME.sql          through psql, each in a schema of its own
 *   scripts/NAME.steps        scenarios of several sessions
 *   scripts/NAME.after.sql    like .sql, after the first restart: looks at what NAME.sql left
 */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { query } from '../harness/stack.js';
import { difference, isExplained, readExplained } from './compare.js';
import type { Explained } from './compare.js';
import { amcheckAll, dumpAll, withoutSequencePositions } from './dump.js';
import { DATABASE, runScript } from './psql.js';
import { urlOf } from './servers.js';
import type { ServerPair, Side } from './servers.js';
import { runSteps } from './steps.js';
import { leaveUnfinished } from './unfinished.js';

/** Sorts before all others and is never left out. */
const FIRST = 'a-setup.sql';

export interface Outcome {
  readonly name: string;
  readonly result: 'same' | 'explained' | 'different';
  readonly tookMs: number;
  /** What differs, to read; empty when nothing does. */
  readonly text: string;
}

export interface SuiteOptions {
  /** Holds scripts/ and explained.md. */
  readonly directory: string;
  /** Scripts whose name does not match are left out. */
  readonly only?: RegExp;
  /** Where what both servers printed is written, as NAME.plain and NAME.compute. */
  readonly outputDir?: string;
  readonly onOutcome: (outcome: Outcome) => void;
}

export async function runSuite(pair: ServerPair, options: SuiteOptions): Promise<Outcome[]> {
  const suite = new Suite(pair, options, await readExplained(join(options.directory, 'explained.md')));
  const dir = await mkdtemp(join(tmpdir(), 'neon-differential-'));
  try {
    await suite.run(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return suite.outcomes;
}

class Suite {
  readonly outcomes: Outcome[] = [];
  private readonly pair: ServerPair;
  private readonly options: SuiteOptions;
  private readonly explained: Explained;
  private readonly scripts: string;

  constructor(pair: ServerPair, options: SuiteOptions, explained: Explained) {
    this.pair = pair;
    this.options = options;
    this.explained = explained;
    this.scripts = join(options.directory, 'scripts');
  }

  async run(dir: string): Promise<void> {
    await chmod(dir, 0o755);
    for (const side of this.pair.sides) {
      await mkdir(join(dir, side.name));
      await chmod(join(dir, side.name), 0o777);
      await query(urlOf(side, 'postgres'), `create database ${DATABASE}`);
    }
    const names = (await readdir(this.scripts)).sort();
    const chosen = names.filter((name) => name === FIRST || (this.options.only?.test(name) ?? true));
    for (const name of chosen.filter((script) => !script.endsWith('.after.sql'))) await this.script(name, dir);
    const before = await this.contents('contents', (dump) => dump);
    await this.pair.restart('fast');
    // How far sequences skip depends on each server's checkpoints; that they never go back is the business of sequences.after.sql.
    const after = await this.contents('contents after a restart', withoutSequencePositions);
    await this.compare('contents before and after a restart', async () => [withoutSequencePositions(before), after]);
    for (const name of chosen.filter((script) => script.endsWith('.after.sql'))) await this.script(name, dir);
    const unfinished = await Promise.all(this.pair.sides.map(leaveUnfinished));
    await this.pair.restart('immediate');
    await Promise.all(unfinished.map((abandon) => abandon()));
    await this.contents('contents after SIGKILL', withoutSequencePositions);
    await this.amcheck();
  }

  private async script(name: string, dir: string): Promise<void> {
    const text = await readFile(join(this.scripts, name), 'utf8');
    const schema = (name.split('.')[0] ?? name).replace(/\W/g, '_');
    await this.compare(name, () =>
      this.onBoth(async (side) => {
        await query(urlOf(side, DATABASE), `create schema if not exists ${schema}`);
        if (name.endsWith('.steps')) return runSteps(side, text, schema);
        return runScript(side, text, { schema, dir: join(dir, side.name) });
      }),
    );
  }

  /** Compares the contents of both; gives the compute's. */
  private async contents(name: string, normalise: (dump: string) => string): Promise<string> {
    let compute = '';
    await this.compare(name, async () => {
      const dumps = (await this.onBoth(dumpAll)).map(normalise);
      compute = dumps[1] ?? '';
      return dumps;
    });
    return compute;
  }

  private async amcheck(): Promise<void> {
    await this.compare('amcheck', () =>
      this.onBoth(async (side) => {
        try {
          await amcheckAll(side);
          return 'clean\n';
        } catch (error) {
          const { stdout, stderr } = error as { stdout?: string; stderr?: string };
          return `${stdout ?? ''}${stderr ?? String(error)}\n`;
        }
      }),
    );
  }

  private onBoth(act: (side: Side) => Promise<string>): Promise<string[]> {
    return Promise.all(this.pair.sides.map(act));
  }

  private async keep(name: string, expected: string, judged: string): Promise<void> {
    const dir = this.options.outputDir;
    if (dir === undefined) return;
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, `${name}.plain`), expected);
    await writeFile(join(dir, `${name}.compute`), judged);
  }

  private async compare(name: string, act: () => Promise<string[]>): Promise<void> {
    const startedAt = Date.now();
    let outcome: Outcome;
    try {
      const [expected = '', judged = ''] = await act();
      await this.keep(name, expected, judged);
      const found = await difference(expected, judged);
      const result = found === null ? 'same' : isExplained(this.explained, name, found) ? 'explained' : 'different';
      outcome = { name, result, tookMs: Date.now() - startedAt, text: found?.text ?? '' };
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      outcome = { name, result: 'different', tookMs: Date.now() - startedAt, text };
    }
    this.outcomes.push(outcome);
    this.options.onOutcome(outcome);
  }
}
