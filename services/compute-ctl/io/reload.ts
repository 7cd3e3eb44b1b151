/**
 * Gives a running Postgres another postgresql.conf. The server itself judges the new file before it is told to read it (the view
 * pg_file_settings parses it anew); when it refuses any line the old file is put back.
 */
import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Account } from './account.js';
import { connectTo } from './catalog.js';
import type { ServerAddress } from './catalog.js';
import { writeOwned } from './pgdata.js';

const POLL_MS = 5;
const RELOAD_TIMEOUT_MS = 10_000;

export interface ReloadOptions {
  readonly server: ServerAddress;
  readonly pgdata: string;
  readonly account: Account | null;
  readonly text: string;
  readonly log: Logger;
}

/** Resolves with the names of settings that need a new start; null: the file is that already. Throws StorageError `invalid` with all that the server refused. */
export async function applySettings(options: ReloadOptions): Promise<string[] | null> {
  const { server, pgdata, account, text, log } = options;
  const path = join(pgdata, 'postgresql.conf');
  const before = await readFile(path, 'utf8');
  if (before === text) return null;
  const client = await connectTo(server, 'postgres');
  try {
    await replace(path, text, account);
    const { refused, waiting } = await judge(client);
    if (refused.length > 0) {
      await replace(path, before, account);
      throw new StorageError('invalid', `Postgres refuses settings of the spec: ${refused.join('; ')}`);
    }
    await reload(client);
    log.info({ pendingRestart: waiting }, 'settings changed');
    return waiting;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** The lines of a configuration that say where the pages are. */
const STORAGE_SETTING = /^neon\.(stripe_size|pageserver_connstring)\b/;

/**
 * Tells a running Postgres where its pages are now, by signal: a session could not even be opened while the old places refuse. What else
 * `text` says comes with `applySettings`.
 */
export async function announceStorage(options: Pick<ReloadOptions, 'pgdata' | 'account' | 'text'>): Promise<void> {
  const { pgdata, account, text } = options;
  const path = join(pgdata, 'postgresql.conf');
  const lines = text.split('\n').filter((line) => STORAGE_SETTING.test(line));
  // The last line of a setting counts.
  await replace(path, `${await readFile(path, 'utf8')}${lines.join('\n')}\n`, account);
  const [pid = ''] = (await readFile(join(pgdata, 'postmaster.pid'), 'utf8')).split('\n');
  process.kill(Number(pid), 'SIGHUP');
}

async function replace(path: string, text: string, account: Account | null): Promise<void> {
  writeOwned(`${path}.new`, text, account);
  await rename(`${path}.new`, path);
}

interface FileSetting {
  readonly name: string | null;
  readonly error: string;
  readonly line: number;
}

/**
 * Reading the view marks those settings in this session as waiting for a restart whose new value is right but cannot be taken now; the
 * others with an error are mistakes. Only the last line of a setting counts.
 */
async function judge(client: pg.Client): Promise<{ refused: string[]; waiting: string[] }> {
  const { rows } = await client.query<FileSetting>(
    'SELECT name, error, sourceline AS line FROM pg_file_settings WHERE error IS NOT NULL ORDER BY sourceline',
  );
  const marked = await client.query<{ name: string }>('SELECT name FROM pg_settings WHERE pending_restart');
  const waiting = new Set(marked.rows.map((row) => row.name.toLowerCase()));
  const refused = rows.filter((row) => row.name === null || !waiting.has(row.name.toLowerCase()));
  return {
    refused: refused.map((row) => `${row.name ?? `line ${row.line}`}: ${row.error}`),
    waiting: [...waiting].sort(),
  };
}

/** Waits until the postmaster has read the file; sessions follow at their next statement. */
async function reload(client: pg.Client): Promise<void> {
  const at = async (): Promise<string> =>
    (await client.query<{ at: string }>('SELECT pg_conf_load_time()::text AS at')).rows[0]?.at ?? '';
  const before = await at();
  await client.query('SELECT pg_reload_conf()');
  for (const endMs = Date.now() + RELOAD_TIMEOUT_MS; (await at()) === before; await sleep(POLL_MS)) {
    if (Date.now() > endMs) throw new StorageError('unavailable', 'Postgres did not read its new settings in time');
  }
}
