/** Runs SQL scripts through psql as a user at a terminal would see them: statements, results, notices and errors in one text. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import type { Side } from './servers.js';

export const DATABASE = 'diff';
const SCRIPT_TIMEOUT_MS = 300_000;

export interface ScriptOptions {
  /** First on the search path; the script's own. */
  readonly schema: string;
  /** A directory that both the server and psql may write to; scripts know it as :'dir'. */
  readonly dir: string;
}

/** The whole output. An error in the script is part of it; only psql itself failing to start or to end rejects. */
export function runScript(side: Side, sql: string, options: ScriptOptions): Promise<string> {
  const args = [
    '-X',
    '-a',
    '-q',
    '-v',
    `dir=${options.dir}`,
    '-v',
    `is_plain=${Number(side.name === 'plain')}`,
    '-d',
    DATABASE,
  ];
  // The shell joins both streams in one pipe: psql flushes one before it writes to the other, so the order is kept.
  const child = spawn('sh', ['-c', 'exec "$0" "$@" 2>&1', join(PG_BIN, 'psql'), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: SCRIPT_TIMEOUT_MS,
    env: {
      ...process.env,
      PGHOST: side.host,
      PGPORT: side.port,
      PGUSER: side.user,
      PGTZ: 'UTC',
      PGDATESTYLE: 'ISO, MDY',
      PGCLIENTENCODING: 'UTF8',
      PGOPTIONS: `-c search_path=${options.schema},public -c intervalstyle=postgres_verbose -c statement_timeout=120s`,
    },
  });
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => void chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      const text = Buffer.concat(chunks)
        .toString('utf8')
        .replaceAll(options.dir, 'DIR')
        .replace(/(with PID) \d+/g, '$1 …');
      resolve(code === 0 ? text : `${text}\npsql ended with ${signal ?? `code ${code}`}\n`);
    });
    // A server that breaks the connection ends psql before it has read all; its output says so.
    child.stdin.on('error', () => undefined);
    child.stdin.end(sql);
  });
}
