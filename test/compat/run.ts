/**
 * npm run compat -- [--only PATTERN] [--outputs DIR] [--show]      stock extensions, one script each
 * npm run compat -- --long [--only pgbench|dump] [--scale 100]     a database of a gigabyte: pgbench, pg_dump, pg_restore
 *
 * npm run compat -- --sqlsmith 2000 [--seed 1]                     statements that sqlsmith makes up
 *
 * All but the last take --set NAME=VALUE, a setting of both servers. Exit code 1 when a compute differs from a plain PostgreSQL.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ServerPair } from '../differential/servers.js';
import { runSuite } from '../differential/suite.js';
import { query } from '../harness/stack.js';
import { runLarge } from './large.js';
import { runSqlsmith } from './sqlsmith.js';

/** What the scripts need before the server starts: counters of statements, decoding of the log. */
const EXTENSION_SETTINGS = { shared_preload_libraries: 'pg_stat_statements', wal_level: 'logical' };

const { values } = parseArgs({
  options: {
    long: { type: 'boolean', default: false },
    only: { type: 'string' },
    outputs: { type: 'string' },
    scale: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    set: { type: 'string', multiple: true, default: [] },
    show: { type: 'boolean', default: false },
    sqlsmith: { type: 'string' },
  },
});
const settings = Object.fromEntries(
  values.set.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
);
const only = values.only === undefined ? null : new RegExp(values.only);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function extensions(): Promise<number> {
  await using pair = await ServerPair.start({ settings: { ...EXTENSION_SETTINGS, ...settings } });
  // compute_ctl makes it where the library is preloaded, for /insights.
  await query(pair.plain.url, 'CREATE EXTENSION pg_stat_statements');
  const outcomes = await runSuite(pair, {
    directory: import.meta.dirname,
    ...(only === null ? {} : { only }),
    ...(values.outputs === undefined ? {} : { outputDir: values.outputs }),
    onOutcome: ({ name, result, tookMs, text }) => {
      say(`${result.padEnd(10)} ${String(tookMs).padStart(7)} ms  ${name}`);
      if (result === 'different' || (values.show && text !== '')) say(text);
    },
  });
  const different = outcomes.filter(({ result }) => result === 'different').length;
  say(`${outcomes.length} comparisons, ${different} different`);
  if (different > 0) say((await pair.stack.logs()).slice(-8000));
  return different;
}

async function large(): Promise<number> {
  const workDir = await mkdtemp(join(tmpdir(), 'neon-compat-'));
  try {
    const scale = Number(values.scale);
    const problems = await runLarge({ scale, parts: only ?? /./, settings, workDir, say });
    for (const problem of problems) say(`DIFFERENT: ${problem}`);
    return problems.length;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

async function smith(queries: number): Promise<number> {
  const problems = await runSqlsmith({ queries, seed: Number(values.seed), say });
  for (const problem of problems) say(`WRONG: ${problem}`);
  return problems.length;
}

const failures = await (values.long
  ? large()
  : values.sqlsmith !== undefined
    ? smith(Number(values.sqlsmith))
    : extensions());
if (failures > 0) process.exitCode = 1;
