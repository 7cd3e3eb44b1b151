/**
 * The data directory: made anew at each start, filled from the tar of a base backup, completed with the configuration. Nothing in it is
 * synced to disk: it is thrown away with the compute.
 */
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, resolve } from 'node:path';
import { extract } from 'tar-stream';
import type { Extract, ExtractEvents, Header } from 'tar-stream';
import type { WalSegmentFile } from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import { parseSegmentName } from '#shared/postgres/wal-layout.js';
import type { Account } from './account.js';

const DIR_MODE = 0o700;
const FILE_MODE = 0o600;
const ENTRY_BYTES_MAX = 2 ** 30;
const ENTRIES_MAX = 1_000_000;
/** A socket's path has at most 107 bytes; its file name takes 16. */
const SOCKET_DIR_BYTES_MAX = 90;

type EntryStream = ExtractEvents['entry'][1];

/** Removes the directory with all it holds and makes an empty one that the account owns. */
export async function recreateDir(path: string, account: Account | null): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await mkdir(dirname(path), { recursive: true });
  await mkdir(path, { mode: DIR_MODE });
  own(path, account);
}

/**
 * A private directory for the unix socket, made anew: beside the data directory, or below the system's temporary directory when the path
 * would be too long for a socket. The same place at each start, so that a killed compute leaves nothing that its next life does not find.
 */
export async function makeSocketDir(pgdata: string, account: Account | null): Promise<string> {
  const beside = `${resolve(pgdata)}.sock`;
  const tag = createHash('sha256').update(beside).digest('hex').slice(0, 16);
  const path = Buffer.byteLength(beside) <= SOCKET_DIR_BYTES_MAX ? beside : join(tmpdir(), `neon-pg-${tag}`);
  await recreateDir(path, account);
  return path;
}

export function writeOwned(path: string, text: string, account: Account | null): void {
  writeFileSync(path, text, { mode: FILE_MODE });
  own(path, account);
}

function own(path: string, account: Account | null): void {
  if (account !== null) chownSync(path, account.uid, account.gid);
}

/**
 * Unpacks a tar into a directory while it arrives. Writes synchronously: entries are many and small, and a start that waits for a
 * thread of the pool at each of them takes several times as long.
 */
export class TarUnpacker {
  private readonly tar: Extract;
  private readonly dir: string;
  private readonly account: Account | null;
  private readonly done: Promise<void>;
  private entryCount = 0;

  constructor(options: { dir: string; account: Account | null }) {
    this.dir = options.dir;
    this.account = options.account;
    this.tar = extract();
    this.done = new Promise((resolve, reject) => {
      this.tar.on('finish', () => resolve());
      this.tar.on('error', (error: Error) => reject(asCorrupt(error)));
    });
    this.done.catch(() => undefined);
    this.tar.on('entry', (header, stream, next) => this.entry(header, stream, next));
  }

  /** Resolves when more may come. Throws StorageError `corrupt` when the tar is damaged. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.tar.write(chunk)) return;
    await Promise.race([new Promise<void>((resolve) => this.tar.once('drain', () => resolve())), this.done]);
  }

  /** All chunks were written: resolves when all files are. */
  async finish(): Promise<void> {
    this.tar.end(null);
    await this.done;
    if (this.entryCount === 0) throw new StorageError('corrupt', 'the base backup is an empty tar');
  }

  abort(): void {
    this.tar.destroy(new StorageError('cancelled', 'the base backup was given up'));
  }

  private entry(header: Header, stream: EntryStream, next: (error?: Error | null) => void): void {
    // An error ends the whole tar and is reported there; without a listener it would end the process.
    stream.on('error', () => undefined);
    try {
      this.entryCount += 1;
      const path = this.checkedPath(header);
      if (header.type === 'directory') {
        mkdirSync(path, { recursive: true, mode: DIR_MODE });
        chmodSync(path, DIR_MODE);
        own(path, this.account);
        stream.on('end', () => next());
        stream.resume();
      } else {
        this.file(path, stream, next);
      }
    } catch (error) {
      next(asError(error));
    }
  }

  private checkedPath(header: Header): string {
    const { name, type, size } = header;
    const relative = normalize(name).replace(/\/$/, '');
    const inside = relative !== '' && !relative.startsWith('/') && relative !== '..' && !relative.startsWith('../');
    if (!inside || name.includes('\0'))
      throw new StorageError('corrupt', `the base backup has an entry named "${name}"`);
    if (type !== 'file' && type !== 'directory') {
      throw new StorageError('corrupt', `the base backup's entry "${name}" is a ${type}`);
    }
    if (size > ENTRY_BYTES_MAX || this.entryCount > ENTRIES_MAX) {
      throw new StorageError('corrupt', `the base backup is too large at "${name}"`);
    }
    return relative === '.' ? this.dir : join(this.dir, relative);
  }

  private file(path: string, stream: EntryStream, next: (error?: Error | null) => void): void {
    const fd = openSync(path, 'w', FILE_MODE);
    let open = true;
    const close = (error?: Error): void => {
      if (!open) return;
      open = false;
      closeSync(fd);
      next(error);
    };
    own(path, this.account);
    stream.on('data', (chunk) => {
      try {
        if (open) writeSync(fd, chunk as Uint8Array);
      } catch (error) {
        close(asError(error));
      }
    });
    stream.on('error', (error) => close(error));
    stream.on('end', () => close());
  }
}

/** Zeros but for the pieces. Throws StorageError `corrupt` when it is no file of pg_wal, or a piece lies outside. */
export function writeWalSegment(
  to: { dir: string; account: Account | null; segSize: number },
  { name, sizeBytes, pieces }: WalSegmentFile,
): void {
  if (parseSegmentName(name, to.segSize) === null || sizeBytes !== to.segSize) {
    throw new StorageError('corrupt', `the base backup has a WAL segment "${name}" of ${sizeBytes} bytes`);
  }
  const path = join(to.dir, 'pg_wal', name);
  const fd = openSync(path, 'wx', FILE_MODE);
  try {
    for (const { offset, data } of pieces) {
      if (offset + data.length > sizeBytes) {
        throw new StorageError('corrupt', `the base backup has bytes behind the end of ${name}`);
      }
      for (let done = 0; done < data.length;) done += writeSync(fd, data, done, data.length - done, offset + done);
    }
    ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
  own(path, to.account);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function asCorrupt(error: Error): StorageError {
  if (error instanceof StorageError) return error;
  if ('code' in error) return new StorageError('internal', 'could not write the data directory', { cause: error });
  return new StorageError('corrupt', 'the base backup is not a tar', { cause: error });
}
