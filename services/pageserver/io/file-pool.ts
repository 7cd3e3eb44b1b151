/** Positioned reads over many files with a bounded number of open handles. A file that is being read is never closed under it. */
import { read as readFd } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { StorageError, wrapError } from '#shared/core/errors.js';
import { ByteLru } from '../core/storage/byte-lru.js';
import type { LruEntry } from '../core/storage/byte-lru.js';

interface OpenFile extends LruEntry {
  readonly path: string;
  readonly handle: Promise<FileHandle>;
  readers: number;
  /** Out of the pool: the last reader closes it. */
  dropped: boolean;
}

/** By number: FileHandle's own read costs half as much again. The handle stays open while `file.readers` counts us. */
function readAt(fd: number, bytes: Buffer, from: { done: number; position: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    readFd(fd, bytes, from.done, bytes.length - from.done, from.position, (error, bytesRead) => {
      if (error === null) resolve(bytesRead);
      else reject(error);
    });
  });
}

export class FilePool {
  private readonly files = new Map<string, OpenFile>();
  private readonly lru: ByteLru<OpenFile>;
  private readonly closing = new Set<Promise<void>>();
  private closed = false;

  constructor(openFilesMax: number) {
    this.lru = new ByteLru<OpenFile>(openFilesMax, (file) => this.leave(file));
  }

  /** Exactly `length` bytes; a shorter file is StorageError `corrupt`, a missing one `unavailable`; `cancelled` once the pool is closed. */
  async read(path: string, offset: number, length: number): Promise<Uint8Array> {
    if (this.closed) throw new StorageError('cancelled', `${path} is not read any more: the files are being closed`);
    const file = this.enter(path);
    file.readers++;
    try {
      const handle = await file.handle;
      const bytes = Buffer.allocUnsafeSlow(length);
      let done = 0;
      while (done < length) {
        const bytesRead = await readAt(handle.fd, bytes, { done, position: offset + done });
        if (bytesRead === 0) {
          throw new StorageError('corrupt', `${path} ends at byte ${offset + done}, wanted ${offset + length}`);
        }
        done += bytesRead;
      }
      return bytes;
    } catch (error) {
      if (error instanceof StorageError) throw error;
      this.drop(path);
      throw new StorageError('unavailable', `could not read ${path}`, { cause: wrapError('read', error) });
    } finally {
      file.readers--;
      this.closeIfDone(file);
    }
  }

  private enter(path: string): OpenFile {
    const known = this.files.get(path);
    if (known !== undefined) {
      this.lru.touch(known);
      return known;
    }
    const handle = open(path, 'r');
    handle.catch(() => undefined);
    // Counted as a reader until it is in: adding may evict, even itself.
    const file: OpenFile = { path, handle, readers: 1, dropped: false, sizeBytes: 1, newer: null, older: null };
    this.files.set(path, file);
    this.lru.add(file);
    file.readers--;
    return file;
  }

  /** Forgets a file: the next read opens it anew. */
  drop(path: string): void {
    const file = this.files.get(path);
    if (file === undefined) return;
    this.lru.remove(file);
    this.leave(file);
  }

  private leave(file: OpenFile): void {
    this.files.delete(file.path);
    file.dropped = true;
    this.closeIfDone(file);
  }

  private closeIfDone(file: OpenFile): void {
    if (!file.dropped || file.readers > 0) return;
    const closed = file.handle
      .then((handle) => handle.close())
      .catch(() => undefined)
      .finally(() => this.closing.delete(closed));
    this.closing.add(closed);
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const path of [...this.files.keys()]) this.drop(path);
    await Promise.all(this.closing);
  }
}
