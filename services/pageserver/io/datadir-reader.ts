/** Reads the files of a data directory, or of a tar of one, as entries. Thin: what they mean is core/import's business. */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { readTar } from '../core/basebackup/tar-reader.js';
import { directoryEntry, type TarEntry } from '../core/basebackup/tar-entry.js';

const READ_BYTES = 256 * 1024;

export function readTarFile(file: string): AsyncGenerator<TarEntry> {
  return readTar(piecesOf(createReadStream(file, { highWaterMark: READ_BYTES })));
}

/** Entries of a directory tree; global/pg_control comes first. Symbolic links are followed for files, as pg_wal may be one. */
export async function* readDataDir(root: string): AsyncGenerator<TarEntry> {
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
