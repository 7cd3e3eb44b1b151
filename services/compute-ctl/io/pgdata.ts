/**
 * The data directory: made anew at each start, with the little that a server reads of it before it waits at its gate (see
 * extension/start-gate.c), then filled from the tar of a base backup, completed with the configuration. Nothing in it is synced to disk: it is
 * thrown away with the compute.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, relative, resolve } from 'node:path';
import { extract } from 'tar-stream';
import type { Extract, ExtractEvents, Header } from 'tar-stream';
import type { WalSegmentFile } from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import { isPlaceholder, placeholderControlFile } from '#shared/postgres/control-file.js';
import { DATA_DIRECTORIES } from '#shared/postgres/data-directories.js';
import { parseSegmentName } from '#shared/postgres/wal-layout.js';
import { renderPgHba } from '../core/postgres-conf.js';
import type { Account } from './account.js';

const DIR_MODE = 0o700;
const FILE_MODE = 0o600;
const ENTRY_BYTES_MAX = 2 ** 30;
const ENTRIES_MAX = 1_000_000;
/** A socket's path has at most 107 bytes; its file name takes 16. */
const SOCKET_DIR_BYTES_MAX = 90;

const VERSION_FILE = 'PG_VERSION';
const CONTROL_FILE = 'global/pg_control';
/** What a waiting server has read, and must find whole at any moment. */
const READ_EARLY = new Set([VERSION_FILE, CONTROL_FILE]);
/** Setting up its shared memory, a server empties them. */
const OPENED_EARLY = ['pg_notify', 'pg_dynshmem'];
/** What it has made itself, or was started with. */
const OF_THE_SERVER = ['postmaster.pid', 'postmaster.opts', 'neon.feedback'];
/** Of the compute: what is there already counts, and not what a base backup says. */
const CONFIGURATION = new Set(['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf']);
const KEPT = new Set([...READ_EARLY, ...OPENED_EARLY, ...OF_THE_SERVER, ...CONFIGURATION]);

type EntryStream = ExtractEvents['entry'][1];

/** Removes the directory with all it holds and makes an empty one that the account owns. */
export async function recreateDir(path: string, account: Account | null): Promise<void> {
  await rm(path, { recursive: true, force: true });
  await mkdir(dirname(path), { recursive: true });
  await mkdir(path, { mode: DIR_MODE });
  own(path, account);
}

/** Removes what an earlier base backup left, and nothing that the server needs which waits there. */
export async function clearForBackup(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    if (!KEPT.has(name) && name !== dirname(CONTROL_FILE)) await rm(join(dir, name), { recursive: true, force: true });
  }
  for (const name of await readdir(join(dir, dirname(CONTROL_FILE))).catch(() => [])) {
    const path = join(dirname(CONTROL_FILE), name);
    if (!KEPT.has(path)) await rm(join(dir, path), { recursive: true, force: true });
  }
}

/** What a server needs to begin, but for its postgresql.conf, and the usual directories. Leaves what the base backup has brought already. */
export function writeSkeleton(
  dir: string,
  { pgMajor, segSize, account }: { pgMajor: number; segSize: number; account: Account | null },
): void {
  for (const name of DATA_DIRECTORIES) {
    mkdirSync(join(dir, name), { recursive: true, mode: DIR_MODE });
    own(join(dir, name), account);
  }
  for (const [name, bytes] of [
    [VERSION_FILE, Buffer.from(`${pgMajor}\n`)],
    [CONTROL_FILE, placeholderControlFile(segSize)],
  ] as const) {
    const path = join(dir, name);
    if (existsSync(path) && !isPlaceholder(readFileSync(path))) continue;
    writeOwned(path, bytes, account);
  }
  writeOwned(join(dir, 'pg_hba.conf'), renderPgHba(), account);
  writeOwned(join(dir, 'pg_ident.conf'), '', account);
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

export function writeOwned(path: string, content: string | Uint8Array, account: Account | null): void {
  writeFileSync(path, content, { mode: FILE_MODE });
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
      const name = relative(this.dir, path);
      if (header.type === 'directory' || (CONFIGURATION.has(name) && existsSync(path))) {
        if (!existsSync(path)) this.directory(path);
        stream.on('end', () => next());
        stream.resume();
      } else {
        this.file(path, READ_EARLY.has(name), stream, next);
      }
    } catch (error) {
      next(asError(error));
    }
  }

  private directory(path: string): void {
    mkdirSync(path, { recursive: true, mode: DIR_MODE });
    chmodSync(path, DIR_MODE);
    own(path, this.account);
  }

  private checkedPath(header: Header): string {
    const { name, type, size } = header;
    const local = normalize(name).replace(/\/$/, '');
    const inside = local !== '' && !local.startsWith('/') && local !== '..' && !local.startsWith('../');
    if (!inside || name.includes('\0'))
      throw new StorageError('corrupt', `the base backup has an entry named "${name}"`);
    if (type !== 'file' && type !== 'directory') {
      throw new StorageError('corrupt', `the base backup's entry "${name}" is a ${type}`);
    }
    if (size > ENTRY_BYTES_MAX || this.entryCount > ENTRIES_MAX) {
      throw new StorageError('corrupt', `the base backup is too large at "${name}"`);
    }
    return local === '.' ? this.dir : join(this.dir, local);
  }

  private file(path: string, isReadEarly: boolean, stream: EntryStream, next: (error?: Error | null) => void): void {
    const written = isReadEarly ? `${path}.new` : path;
    const fd = openSync(written, 'w', FILE_MODE);
    let open = true;
    const close = (error?: Error): void => {
      if (!open) return;
      open = false;
      closeSync(fd);
      if (isReadEarly && error === undefined) renameSync(written, path);
      next(error);
    };
    own(written, this.account);
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
