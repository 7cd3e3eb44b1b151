/**
 * The file operations that WAL and control files are built from, and nothing else: small enough that a test can stand in a disk that
 * forgets, at a crash, what was not synced. Every function rejects with the system's error.
 */
import * as fs from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { ensureDir, fsyncDir } from '#shared/io/files.js';

export interface DiskFile {
  /** Writes all pieces, one behind the other, at byte `at`. */
  write(pieces: readonly Uint8Array[], at: number): Promise<void>;
  /** Returns how many bytes were read: fewer than asked for only at the end of the file. */
  read(into: Uint8Array, at: number): Promise<number>;
  /** Cuts, or extends with zeros. */
  truncate(sizeBytes: number): Promise<void>;
  sizeBytes(): Promise<number>;
  /** Makes content and size durable. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  /** `create` makes an empty file, in place of one that is there. Rejects with ENOENT when the file to read or write is missing. */
  open(path: string, mode: 'read' | 'write' | 'create'): Promise<DiskFile>;
  /** Names in a directory; empty when it does not exist. */
  list(path: string): Promise<string[]>;
  /** Replaces a file that has the new name. */
  rename(from: string, to: string): Promise<void>;
  /** A file or a whole directory; one that does not exist is fine. */
  remove(path: string): Promise<void>;
  /** With its parents, durably. */
  ensureDir(path: string): Promise<void>;
  /** Makes creations, renames and removals in a directory durable. */
  syncDir(path: string): Promise<void>;
}

const writev = promisify(fs.writev);
const read = promisify(fs.read);
const ftruncate = promisify(fs.ftruncate);
const fstat = promisify(fs.fstat);
const fdatasync = promisify(fs.fdatasync);
const close = promisify(fs.close);

const FLAGS = { read: 'r', write: 'r+', create: 'w+' } as const;
const PIECES_PER_WRITE_MAX = 512;

/** `sync: false` skips every fsync: for tests of other things only, a crash of the machine then loses data. */
export function realDisk(options: { sync: boolean }): Disk {
  return {
    open: async (path, mode) => new RealFile(await openFd(path, FLAGS[mode]), options.sync),
    list: (path) =>
      readdir(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return [];
        throw error;
      }),
    rename,
    remove: (path) => rm(path, { recursive: true, force: true }),
    ensureDir: async (path) => {
      if (options.sync) await ensureDir(path);
      else await mkdir(path, { recursive: true });
    },
    syncDir: async (path) => {
      if (options.sync) await fsyncDir(path);
    },
  };
}

const openFd = (path: string, flags: string): Promise<number> =>
  new Promise((resolve, reject) => {
    fs.open(path, flags, 0o600, (error, fd) => {
      if (error) reject(error);
      else resolve(fd);
    });
  });

class RealFile implements DiskFile {
  private readonly fd: number;
  private readonly durable: boolean;

  constructor(fd: number, durable: boolean) {
    this.fd = fd;
    this.durable = durable;
  }

  async write(pieces: readonly Uint8Array[], at: number): Promise<void> {
    for (let first = 0; first < pieces.length; first += PIECES_PER_WRITE_MAX) {
      at = await this.writeSome(pieces.slice(first, first + PIECES_PER_WRITE_MAX), at);
    }
  }

  /** Returns the position behind what was written. */
  private async writeSome(pieces: readonly Uint8Array[], at: number): Promise<number> {
    let rest = pieces;
    while (rest.length > 0) {
      const { bytesWritten } = await writev(this.fd, rest, at);
      at += bytesWritten;
      rest = skip(rest, bytesWritten);
    }
    return at;
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await read(this.fd, into, done, into.length - done, at + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  truncate(sizeBytes: number): Promise<void> {
    return ftruncate(this.fd, sizeBytes);
  }

  async sizeBytes(): Promise<number> {
    return (await fstat(this.fd)).size;
  }

  /** fdatasync: it also writes the metadata that is needed to find the data again. */
  async sync(): Promise<void> {
    if (this.durable) await fdatasync(this.fd);
  }

  close(): Promise<void> {
    return close(this.fd);
  }
}

/** What remains of the pieces behind their first `count` bytes. Shares memory. */
function skip(pieces: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let index = 0;
  while (index < pieces.length && count >= (pieces[index] as Uint8Array).length) {
    count -= (pieces[index] as Uint8Array).length;
    index += 1;
  }
  const rest = pieces.slice(index);
  if (count > 0) rest[0] = (rest[0] as Uint8Array).subarray(count);
  return rest;
}

/** True for the error of a missing file. */
export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === 'ENOENT';
}
