/** Reads the files of a data directory, or of a tar of one, as entries. Thin: what they mean is core/import's business. */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import { StorageError } from '#shared/core/errors.js';
import { DIRECTORY_MODE, directoryEntry, type TarEntry } from '../core/basebackup/tar-entry.js';

const READ_BYTES = 256 * 1024;

/**
 * Entries of a tar (ustar, GNU, pax). Links and devices are `invalid`: a cleanly made archive of a data directory without tablespaces
 * has none.
 */
export async function* readTar(
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<TarEntry, void, undefined> {
  const unpacking = extract();
  const fed = pipeline(Readable.from(bytes), unpacking);
  // The loop below fails as well; this failure is looked at after it.
  fed.catch(() => undefined);
  for await (const entry of unpacking) {
    const { name, mode, type, size } = entry.header;
    if (type === 'file' || type === 'contiguous-file') {
      yield { path: name, mode: mode ?? 0o600, type: 'file', sizeBytes: size ?? 0, pieces: piecesOf(entry) };
    } else if (type === 'directory') {
      yield { path: name, mode: mode ?? DIRECTORY_MODE, type: 'directory', sizeBytes: 0, pieces: [] };
    } else {
      throw new StorageError('invalid', `the archive holds a ${type ?? 'nameless thing'}: ${name}`);
    }
    entry.resume();
  }
  await fed;
}

export function readTarFile(file: string): AsyncGenerator<TarEntry, void, undefined> {
  return readTar(createReadStream(file, { highWaterMark: READ_BYTES }));
}

/** Entries of a directory tree; global/pg_control comes first. Symbolic links are followed for files, as pg_wal may be one. */
export async function* readDataDir(root: string): AsyncGenerator<TarEntry, void, undefined> {
  const control = 'global/pg_control';
  const names = (await readdir(root, { recursive: true })).map((name) => name.split(path.sep).join('/')).sort();
  if (names.includes(control)) names.unshift(...names.splice(names.indexOf(control), 1));
  for (const name of names) {
    const file = path.join(root, name);
    const info = await stat(file);
    if (info.isDirectory()) yield directoryEntry(name);
    else if (info.isFile()) {
      const pieces = readFile(file, info.size);
      yield { path: name, mode: info.mode & 0o777, type: 'file', sizeBytes: info.size, pieces };
    }
  }
}

/** Opens the file only when it is read. */
async function* readFile(file: string, sizeBytes: number): AsyncGenerator<Uint8Array> {
  if (sizeBytes > 0) yield* piecesOf(createReadStream(file, { highWaterMark: READ_BYTES, end: sizeBytes - 1 }));
}

async function* piecesOf(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const piece of stream) {
    if (!(piece instanceof Uint8Array)) throw new StorageError('internal', 'a byte stream gave something else');
    yield piece;
  }
}
