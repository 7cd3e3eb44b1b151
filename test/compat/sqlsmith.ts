/**
 * Statements that sqlsmith makes up, from a seed, against a compute with hardly any memory. Most of them fail or run out of time: what
 * counts is that the server lives, says nothing of broken pages or a broken page server, and holds afterwards what it held before.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SETTINGS_OF_COMPUTES, SMALL_SETTINGS } from '../differential/servers.js';
import { amcheck } from '../harness/plain.js';
import { pgTool, query, TestStack } from '../harness/stack.js';
import { digestDatabase } from './digest.js';

const COMPUTE = 'main';
const DATABASE = 'smith';
/** Not a superuser: it would be able to stop the server, and does not see the statements that only a superuser may run wrong. */
const ROLE = 'smith';
/** sqlsmith sets its own limit of a second for each statement; this one is for the whole. */
const MS_PER_QUERY_MAX = 3_000;

/** In the log of the server, these are the server's fault and not the statement's. */
const BROKEN = [
  /PANIC/,
  /TRAP: /,
  /was terminated by signal/,
  /terminating any other active server processes/,
  /could not (?:read|write|extend|open|truncate) (?:block|file) /,
  /invalid page|page verification failed|unexpected data beyond EOF/,
  /page server (?:refused|sent)/,
  /\bneon: /,
  /failed to re-find|missing chunk|could not (?:access status of|find block)|uninitialized page|corrupt|broken/,
];
/** What a start says. */
const USUAL = /neon: replaced the storage manager table/;

export interface SqlsmithOptions {
  readonly queries: number;
  readonly seed: number;
  readonly say: (line: string) => void;
}

export async function runSqlsmith(options: SqlsmithOptions): Promise<string[]> {
  await using stack = await TestStack.start({ safekeepers: 1 });
  // Errors of statements are the rule here; a log of them all would hide everything else.
  const settings = { ...SMALL_SETTINGS, ...SETTINGS_OF_COMPUTES, log_min_error_statement: 'error' };
  const url = await stack.startCompute(COMPUTE, { settings });
  const database = await makeDatabase(url);
  const before = await digestDatabase(database);
  const log = join(stack.repoDir, 'logs', `compute-${COMPUTE}.log`);
  const logStart = (await stat(log)).size;
  const problems: string[] = [];

  const [code, output] = await sqlsmith(database, options);
  options.say(`sqlsmith: ${options.queries} statements of seed ${options.seed}, ended with code ${code}`);
  if (code !== 0) problems.push(`sqlsmith ended with code ${code}: ${output.slice(-2000)}`);
  const text = (await readFile(log)).subarray(logStart).toString('utf8');
  const broken = text.split('\n').filter((line) => BROKEN.some((pattern) => pattern.test(line)) && !USUAL.test(line));
  problems.push(...broken.slice(0, 20));
  options.say(`errors of statements in the log: ${text.split(' ERROR:  ').length - 1}`);

  const after = await digestDatabase(database);
  if (after.text !== before.text) problems.push('the contents changed, though sqlsmith rolls back');
  await amcheck(database);
  await stack.stopCompute(COMPUTE, 'immediate');
  const again = new URL(await stack.startAgain(COMPUTE));
  again.pathname = DATABASE;
  const restarted = await digestDatabase(again.href);
  if (restarted.text !== before.text) problems.push('the contents differ after a restart');
  await amcheck(again.href);
  return problems;
}

/** Its URL for the owner. */
async function makeDatabase(url: string): Promise<string> {
  await query(url, `create role ${ROLE} login`);
  await query(url, `create database ${DATABASE} owner ${ROLE}`);
  const owner = new URL(url);
  owner.pathname = DATABASE;
  owner.username = ROLE;
  await pgTool('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', join(import.meta.dirname, 'sqlsmith.sql'), owner.href);
  const superuser = new URL(owner);
  superuser.username = new URL(url).username;
  await query(superuser.href, 'create extension amcheck');
  return superuser.href;
}

async function sqlsmith(database: string, options: SqlsmithOptions): Promise<[number | null, string]> {
  const { hostname, port } = new URL(database);
  const target = `host=${hostname} port=${port} dbname=${DATABASE} user=${ROLE}`;
  const args = [
    `--target=${target}`,
    `--seed=${options.seed}`,
    `--max-queries=${options.queries}`,
    '--exclude-catalog',
  ];
  const child = spawn('sqlsmith', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000 + options.queries * MS_PER_QUERY_MAX,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-10_000)));
  const [code] = (await once(child, 'close')) as [number | null];
  return [code, output];
}
