/** Where an export goes: a tar, a data directory, an SQL dump. Each appears whole or not at all. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { ensureDir, pathExists, renameDurable, writeAll } from '#shared/io/files.js';
import type { Progress } from './operations.js';

const STDERR_BYTES_MAX = 4_000;

async function wantNew(path: string): Promise<string> {
  if (await pathExists(path)) throw new StorageError('already-exists', `${path} exists already; choose another path`);
  await ensureDir(dirname(path));
  const unfinished = `${path}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  return unfinished;
}

export async function writeTar(path: string, archive: AsyncIterable<Buffer>, progress: Progress): Promise<void> {
  const unfinished = await wantNew(path);
  const handle = await open(unfinished, 'wx', 0o600);
  let done = 0;
  try {
    for await (const piece of archive) {
      await writeAll(handle, piece);
      done += piece.length;
      progress.done(done, 0);
    }
    await handle.sync();
    await handle.close();
    await renameDurable(unfinished, path);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(unfinished, { force: true });
    throw error;
  }
}

/** A directory that `pg_ctl -D … start` starts. */
export async function writeDataDirectory(
  path: string,
  archive: AsyncIterable<Buffer>,
  progress: Progress,
): Promise<void> {
  const unfinished = await wantNew(path);
  await ensureDir(unfinished);
  const child = spawn('tar', ['-C', unfinished, '-xpf', '-', '--no-same-owner'], { stdio: ['pipe', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_BYTES_MAX)));
  child.stdin.on('error', () => undefined);
  const ended = once(child, 'close') as Promise<[number | null]>;
  let done = 0;
  try {
    for await (const piece of archive) {
      if (!child.stdin.write(piece)) await Promise.race([once(child.stdin, 'drain'), ended]);
      done += piece.length;
      progress.done(done, 0);
    }
    child.stdin.end();
    const [code] = await ended;
    if (code !== 0) throw new StorageError('unavailable', `could not unpack into ${path}: ${stderr.trim()}`);
    const handle = await open(unfinished, 'r');
    await handle.chmod(0o700).finally(() => handle.close());
    await renameDurable(unfinished, path);
  } catch (error) {
    child.kill('SIGKILL');
    await rm(unfinished, { recursive: true, force: true });
    throw error;
  }
}

/** All databases and roles as SQL. */
export async function writeDump(pgBin: string, url: string, path: string, progress: Progress): Promise<void> {
  const unfinished = await wantNew(path);
  const args = ['-d', url, '-f', unfinished, '--no-password'];
  const child = spawn(join(pgBin, 'pg_dumpall'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_BYTES_MAX)));
  const abort = () => child.kill('SIGTERM');
  progress.signal.addEventListener('abort', abort, { once: true });
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new StorageError('unavailable', `pg_dumpall failed: ${stderr.trim()}`);
    await renameDurable(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  } finally {
    progress.signal.removeEventListener('abort', abort);
  }
}
