/** The definition of a database as SQL text, from the pg_dump that came with the server. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { connectTo } from './catalog.js';
import type { ServerAddress } from './catalog.js';
import { inDatabase } from './database-errors.js';

const ERROR_CHARS_MAX = 2_000;

/**
 * Yields the text in pieces. Throws StorageError: `not-found` before the first piece for an unknown database, else what pg_dump said, in
 * its place. Ending the iteration early ends pg_dump.
 */
export async function* dumpSchema(server: ServerAddress, binDir: string, database: string): AsyncGenerator<Buffer> {
  await inDatabase(`dump the schema of "${database}"`, async () => {
    await (await connectTo(server, database, 'api')).end();
  });
  const { socketDir, port, user } = server;
  // As a connection string, so that no name can be taken for one.
  const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const target = `host=${quoted(socketDir)} port=${port} user=${quoted(user)} dbname=${quoted(database)} application_name='compute_ctl:dump'`;
  const child = spawn(join(binDir, 'pg_dump'), ['--schema-only', '-d', target], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  exited.catch(() => undefined);
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    complaint = (complaint + text.toString('utf8')).slice(0, ERROR_CHARS_MAX);
  });
  try {
    for await (const piece of child.stdout) yield piece as Buffer;
    const [code] = await exited;
    if (code !== 0) throw new StorageError('internal', `pg_dump failed: ${complaint.trim()}`);
  } finally {
    if (child.exitCode === null) child.kill('SIGKILL');
  }
}
