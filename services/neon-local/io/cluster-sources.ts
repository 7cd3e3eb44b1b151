/** Where an import comes from: a running server by pg_basebackup, a data directory, a tar. All give tar bytes. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { pathExists } from '#shared/io/files.js';

const STDERR_BYTES_MAX = 4_000;

export interface ClusterSource {
  readonly description: string;
  /** 0 = not known. */
  readonly totalBytes: number;
  /** Ends only when everything was read; throws what went wrong. */
  open(signal: AbortSignal): AsyncGenerator<Buffer>;
}

async function* outputOf(
  what: string,
  program: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; signal: AbortSignal },
): AsyncGenerator<Buffer> {
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: options.env });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_BYTES_MAX)));
  const ended = once(child, 'close') as Promise<[number | null]>;
  const failed = new Promise<never>((_, reject) => child.once('error', reject));
  failed.catch(() => undefined);
  const abort = () => child.kill('SIGTERM');
  options.signal.addEventListener('abort', abort, { once: true });
  try {
    if (child.stdout === null) throw new StorageError('internal', `${what} has no output`);
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const [code] = await Promise.race([ended, failed]);
    if (code !== 0) throw new StorageError('unavailable', `${what} failed: ${stderr.trim()}`);
  } catch (error) {
    if (error instanceof StorageError) throw error;
    throw new StorageError('unavailable', `${what} failed: ${stderr.trim()}`, { cause: error });
  } finally {
    options.signal.removeEventListener('abort', abort);
    child.kill('SIGTERM');
  }
}

/** basebackup://user:password@host:port/ */
function baseBackupSource(pgBin: string, url: URL): ClusterSource {
  const host = decodeURIComponent(url.hostname).replace(/^\[|\]$/g, '');
  if (host === '') throw new StorageError('invalid', 'from which server? write basebackup://user@host:port/');
  const user = decodeURIComponent(url.username) || 'postgres';
  const password = decodeURIComponent(url.password);
  const port = url.port === '' ? '5432' : url.port;
  const env = { ...process.env, ...(password === '' ? {} : { PGPASSWORD: password }), PGCONNECT_TIMEOUT: '15' };
  const args = ['-h', host, '-p', port, '-U', user, '-w', '-D', '-', '-Ft', '-X', 'fetch', '-c', 'fast'];
  return {
    description: `the server at ${host}:${port}`,
    totalBytes: 0,
    open: (signal) => outputOf('pg_basebackup', join(pgBin, 'pg_basebackup'), args, { env, signal }),
  };
}

async function directorySource(dir: string): Promise<ClusterSource> {
  if (!(await pathExists(join(dir, 'global/pg_control')))) {
    throw new StorageError('invalid', `${dir} is no data directory of PostgreSQL: it has no global/pg_control`);
  }
  if (await pathExists(join(dir, 'postmaster.pid'))) {
    const advice = 'stop it first ("pg_ctl stop"), or import from it by basebackup://';
    throw new StorageError('precondition', `a server seems to run on ${dir} (there is a postmaster.pid); ${advice}`);
  }
  // pg_control comes first, so that the timeline is known; a stopped server's WAL is not needed.
  const except = ['./pg_wal/*', './global/pg_control', './*.old'].map((pattern) => `--exclude=${pattern}`);
  const args = ['-C', dir, '-cf', '-', './global/pg_control', ...except, '.'];
  return {
    description: `the data directory ${dir}`,
    totalBytes: 0,
    open: (signal) => outputOf('tar', 'tar', args, { env: process.env, signal }),
  };
}

export async function clusterSource(pgBin: string, from: string): Promise<ClusterSource> {
  if (from.startsWith('basebackup://')) {
    try {
      return baseBackupSource(pgBin, new URL(from));
    } catch (cause) {
      if (cause instanceof StorageError) throw cause;
      throw new StorageError('invalid', `"${from.replace(/:[^:@/]*@/, ':…@')}" is no basebackup://user@host:port/`, {
        cause,
      });
    }
  }
  const info = await stat(from).catch(() => null);
  if (info === null) throw new StorageError('not-found', `${from} does not exist`);
  if (info.isDirectory()) return directorySource(from);
  return {
    description: `the archive ${from}`,
    totalBytes: info.size,
    async *open(signal) {
      for await (const chunk of createReadStream(from, { highWaterMark: 512 << 10, signal })) yield chunk as Buffer;
    },
  };
}
