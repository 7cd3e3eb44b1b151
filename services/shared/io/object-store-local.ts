/** Object store in a local directory: key = path below the root. Writes go to a temporary name, fsync, rename, fsync directory. */
import { randomUUID } from 'node:crypto';
import { copyFile, open, readdir, readFile, rm, stat, unlink } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StorageError, wrapError } from '../core/errors.js';
import { ensureDir, fsyncDir, renameDurable, writeAll } from './files.js';
import { isValidObjectKey } from './object-store.js';
import type { ObjectStore } from './object-store.js';

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

  private async publish(key: string, write: (temporary: string) => Promise<void>): Promise<void> {
    const target = this.pathOf(key);
    const temporary = join(this.root, TEMPORARY, randomUUID());
    try {
      await write(temporary);
      await ensureDir(dirname(target));
      await renameDurable(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true });
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOSPC' || code === 'EDQUOT') {
        throw new StorageError('exhausted', `no space left for object ${key} in ${this.root}`, { cause: error });
      }
      throw wrapError(`could not write object ${key}`, error);
    }
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await this.publish(key, async (temporary) => {
      const handle = await open(temporary, 'wx', 0o600);
      try {
        await writeAll(handle, bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  async putFile(key: string, path: string): Promise<void> {
    await this.publish(key, async (temporary) => {
      await copyFile(path, temporary);
      const handle = await open(temporary, 'r+');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  async get(key: string): Promise<Uint8Array> {
    return readFile(this.pathOf(key)).catch((error: unknown) => {
      throw readFailure(key, error);
    });
  }

  async getRange(key: string, start: number, end: number): Promise<Uint8Array> {
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

  async getToFile(key: string, path: string): Promise<void> {
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
    return keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
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

  async delete(keys: readonly string[]): Promise<void> {
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
