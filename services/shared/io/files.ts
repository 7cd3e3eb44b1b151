/** Durable file operations: what these functions have returned from survives a power cut. */
import { constants } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from '../core/errors.js';

/** Makes renames, creations and removals inside `path` durable. */
export async function fsyncDir(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a directory with its parents, durably. */
export async function ensureDir(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let at = path; ; at = dirname(at)) {
    await fsyncDir(dirname(at));
    if (at === first || at === dirname(at)) return;
  }
}

/** Writes all bytes of the pieces at the handle's position. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number | null = null): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(
      bytes,
      done,
      bytes.length - done,
      position === null ? null : position + done,
    );
    done += bytesWritten;
  }
}

/** Replaces `path` in one step: write new, fsync, rename, fsync the directory. A crash leaves the old or the new content. */
export async function writeFileDurable(path: string, bytes: Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.tmp`;
  const handle = await open(temporary, 'w', mode);
  try {
    await writeAll(handle, bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await fsyncDir(dirname(path));
}

/** Renames and makes it durable. Both paths must be in one file system. */
export async function renameDurable(from: string, to: string): Promise<void> {
  await rename(from, to);
  await fsyncDir(dirname(to));
  if (dirname(from) !== dirname(to)) await fsyncDir(dirname(from));
}

/** Removes a file or tree durably; one that does not exist is fine. */
export async function removeDurable(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await fsyncDir(dirname(path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

export async function pathExists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
      throw error;
    },
  );
}

/** Start time of a process in clock ticks since boot; tells a re-used process id apart. Null when it does not run. */
export async function processStartTime(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? null : (fields[19] ?? null);
}

/** Lock files that this very process holds. */
const heldLocks = new Set<string>();

/**
 * Takes a directory for this process by a lock file with pid and start time; a lock whose process is gone is taken over. Throws
 * StorageError `precondition` naming the owner. Returns the release function.
 */
export async function lockDir(path: string, name = 'LOCK'): Promise<() => Promise<void>> {
  const file = join(path, name);
  if (heldLocks.has(file)) throw new StorageError('precondition', `${path} is in use by this process already`);
  const mine = `${process.pid} ${(await processStartTime(process.pid)) ?? '0'}\n`;
  for (let attempt = 0; attempt < 5; attempt++) {
    const handle = await open(file, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      return null;
    });
    if (handle !== null) {
      await writeAll(handle, Buffer.from(mine));
      await handle.close();
      heldLocks.add(file);
      return async () => {
        heldLocks.delete(file);
        if ((await readFile(file, 'utf8').catch(() => '')) === mine) await rm(file, { force: true });
      };
    }
    const owner = await readFile(file, 'utf8').catch(() => '');
    const [pid, startTime] = owner.trim().split(' ');
    const running = await processStartTime(Number(pid));
    if (running !== null && running === startTime && owner !== mine) {
      throw new StorageError('precondition', `${path} is in use by process ${pid}; stop it first`);
    }
    await rm(file, { force: true });
  }
  throw new StorageError('unavailable', `could not lock ${path}`);
}
