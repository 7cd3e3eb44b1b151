/** One file or directory of a data directory, on its way into or out of a tar. */
export interface TarEntry {
  /** Relative to the data directory, with slashes, without one at the end. */
  readonly path: string;
  readonly mode: number;
  readonly type: 'file' | 'directory';
  readonly sizeBytes: number;
  /** sizeBytes in total. To be read once, before the next entry is asked for; unread pieces are passed over. */
  readonly pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export const FILE_MODE = 0o600;
export const DIRECTORY_MODE = 0o700;

export function directoryEntry(path: string): TarEntry {
  return { path, mode: DIRECTORY_MODE, type: 'directory', sizeBytes: 0, pieces: [] };
}

export function fileEntry(path: string, ...pieces: readonly Uint8Array[]): TarEntry {
  const sizeBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return { path, mode: FILE_MODE, type: 'file', sizeBytes, pieces };
}
