/** Object store in a local directory: key = path below the root. Writes go to a temporary name, fsync, rename, fsync directory. */
import { randomUUID } from 'node:crypto';
import { copyFile, link, open, readdir, readFile, rm, stat, unlink } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StorageError, wrapError } from '../core/errors.js';
import { ensureDir, fsyncDir, renameDurable, writeAll } from './files.js';
import { compareObjectKeys, isValidObjectKey } from './object-store.js';
import type { ObjectInfo, ObjectStore } from './object-store.js';

/** Unfinished uploads live here; never listed, swept at open. */
const TEMPORARY = '.uploads';

function rootOf(url: string): string {
  const root = url.startsWith('file://') ? fileURLToPath(url) : url;
  if (!isAbsolute(root)) {
    throw new StorageError(
      'invalid',
      `"${url}" is no object store; use file:///absolute/directory or s3://bucket/prefix`,
    );
  }
  return root;
}

function readFailure(key: string, error: unknown): StorageError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') return new StorageError('not-found', `object ${key} does not exist`);
  if (error instanceof StorageError) return error;
  return new StorageError('unavailable', `could not read object ${key}`, { cause: error });
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await writeAll(handle, bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Gives a file a name that nobody has; false when somebody has. The old name goes. */
async function linkDurable(from: string, to: string): Promise<boolean> {
  const isCreated = await link(from, to).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return false;
      throw error;
    },
  );
  await unlink(from);
  await fsyncDir(dirname(to));
  return isCreated;
}

function refuseAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new StorageError('cancelled', 'the caller has given up');
}

class LocalStore implements ObjectStore {
  readonly url: string;
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
    this.url = `file://${root}`;
  }

  private pathOf(key: string): string {
    if (!isValidObjectKey(key)) throw new StorageError('invalid', `"${key}" is not an object key`);
    return join(this.root, key);
  }

  /** `place` brings the finished file to its name. */
  private async publish<T>(
    key: string,
    write: (temporary: string) => Promise<void>,
    place: (temporary: string, target: string) => Promise<T>,
  ): Promise<T> {
    const target = this.pathOf(key);
    const temporary = join(this.root, TEMPORARY, randomUUID());
    try {
      await write(temporary);
      await ensureDir(dirname(target));
      return await place(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true });
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOSPC' || code === 'EDQUOT') {
        throw new StorageError('exhausted', `no space left for object ${key} in ${this.root}`, { cause: error });
      }
      throw wrapError(`could not write object ${key}`, error);
    }
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    refuseAborted(signal);
    await this.publish(key, (temporary) => writeNew(temporary, bytes), renameDurable);
  }

  async create(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    refuseAborted(signal);
    const isCreated = await this.publish(key, (temporary) => writeNew(temporary, bytes), linkDurable);
    return isCreated || Buffer.compare(await this.get(key), bytes) === 0;
  }

  async putFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    refuseAborted(signal);
    const copy = async (temporary: string): Promise<void> => {
      await copyFile(path, temporary);
      const handle = await open(temporary, 'r+');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    };
    await this.publish(key, copy, renameDurable);
  }

  async get(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    refuseAborted(signal);
    return readFile(this.pathOf(key)).catch((error: unknown) => {
      throw readFailure(key, error);
    });
  }

  async getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    refuseAborted(signal);
    if (end <= start) return new Uint8Array(0);
    const handle = await open(this.pathOf(key), 'r').catch((error: unknown) => {
      throw readFailure(key, error);
    });
    try {
      const out = Buffer.allocUnsafe(end - start);
      let done = 0;
      while (done < out.length) {
        const { bytesRead } = await handle.read(out, done, out.length - done, start + done);
        if (bytesRead === 0)
          throw new StorageError('corrupt', `object ${key} ends at ${start + done}, wanted ${end} bytes`);
        done += bytesRead;
      }
      return out;
    } finally {
      await handle.close();
    }
  }

  async getToFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    refuseAborted(signal);
    await copyFile(this.pathOf(key), path).catch((error: unknown) => {
      throw readFailure(key, error);
    });
    const handle = await open(path, 'r+');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async head(key: string): Promise<{ sizeBytes: number } | null> {
    try {
      const info = await stat(this.pathOf(key));
      return info.isFile() ? { sizeBytes: info.size } : null;
    } catch (error) {
      const failure = readFailure(key, error);
      if (failure.kind === 'not-found') return null;
      throw failure;
    }
  }

  async list(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    const cut = prefix.lastIndexOf('/');
    await this.walk(cut < 0 ? '' : prefix.slice(0, cut), (key) => {
      if (key.startsWith(prefix)) keys.push(key);
    });
    return keys.sort(compareObjectKeys);
  }

  async listObjects(prefix: string): Promise<ObjectInfo[]> {
    const objects: ObjectInfo[] = [];
    for (const key of await this.list(prefix)) {
      const info = await stat(join(this.root, key)).catch((error: NodeJS.ErrnoException) => {
        // Deleted meanwhile.
        if (error.code === 'ENOENT') return null;
        throw readFailure(key, error);
      });
      if (info !== null) objects.push({ key, sizeBytes: info.size, modifiedMs: info.mtimeMs });
    }
    return objects;
  }

  private async walk(dir: string, visit: (key: string) => void): Promise<void> {
    for (const entry of await this.entries(dir)) {
      const key = dir === '' ? entry.name : `${dir}/${entry.name}`;
      if (entry.isDirectory()) await this.walk(key, visit);
      else visit(key);
    }
  }

  private async entries(dir: string) {
    const entries = await readdir(join(this.root, dir), { withFileTypes: true }).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
        throw readFailure(dir, error);
      },
    );
    return entries.filter((entry) => entry.name !== TEMPORARY);
  }

  async listPrefixes(prefix: string): Promise<string[]> {
    const cut = prefix.lastIndexOf('/') + 1;
    const entries = await this.entries(prefix.slice(0, cut));
    return entries
      .filter((entry) => entry.isDirectory() && entry.name.startsWith(prefix.slice(cut)))
      .map((entry) => entry.name)
      .sort();
  }

  async delete(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    refuseAborted(signal);
    const touched = new Set<string>();
    for (const key of keys) {
      const path = this.pathOf(key);
      await unlink(path).then(
        () => touched.add(dirname(path)),
        (error: NodeJS.ErrnoException) => {
          if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR')
            throw wrapError(`could not delete object ${key}`, error);
        },
      );
    }
    for (const dir of touched) await fsyncDir(dir);
  }
}

export async function openLocalStore(url: string): Promise<ObjectStore> {
  const root = rootOf(url);
  await ensureDir(join(root, TEMPORARY));
  return new LocalStore(root);
}
