/**
 * Reads a tar as entries while its bytes come in: ustar, with the long names of GNU tar and pax. The layout is in ustar.ts; further
 *
 *   type 'L'  content is the path of the next entry, zero-terminated
 *   type 'x'  content is lines "LENGTH KEY=VALUE\n" about the next entry; type 'g' the same about all: passed over
 *
 * Bounded: path records up to 64 KiB, contents are handed through in the pieces that come in.
 */
import { StorageError } from '#shared/core/errors.js';
import { directoryEntry, type TarEntry } from './tar-entry.js';

const BLOCK_BYTES = 512;
const CHECKSUM_AT = 148;
const CHECKSUM_BYTES = 8;
const NAME_RECORD_BYTES_MAX = 64 * 1024;

interface Header {
  readonly path: string;
  readonly mode: number;
  readonly type: string;
  readonly sizeBytes: number;
}

/**
 * Links and devices are `invalid`: a cleanly made archive of a data directory without tablespaces has none. So is an archive that
 * ends early. An entry's pieces must be read, if at all, before the next entry is asked for.
 */
export async function* readTar(bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const source = new ByteSource(bytes);
  let longPath: string | null = null;
  try {
    for (;;) {
      const block = await source.take(BLOCK_BYTES);
      if (block.every((byte) => byte === 0)) return;
      const { path: shortPath, mode, type, sizeBytes } = parseHeader(block);
      const path: string = longPath ?? shortPath;
      longPath = null;
      const paddedBytes = Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
      if (type === 'L' || type === 'x' || type === 'g') {
        if (sizeBytes > NAME_RECORD_BYTES_MAX) throw invalid(`a name record of ${sizeBytes} bytes`);
        const content = Buffer.from(await source.take(paddedBytes)).subarray(0, sizeBytes);
        if (type === 'L') longPath = untilZero(content);
        else if (type === 'x') longPath = paxPath(content);
      } else if (type === '5') {
        yield directoryEntry(path.replace(/\/+$/, ''));
      } else if (type === '0' || type === '\0' || type === '7') {
        const content = new Content(source, sizeBytes);
        yield { path, mode, type: 'file', sizeBytes, pieces: content.pieces() };
        await source.skip(content.leftBytes + paddedBytes - sizeBytes);
      } else {
        throw invalid(`${path} is a link or a device (type "${type}")`);
      }
    }
  } finally {
    await source.close();
  }
}

class Content {
  leftBytes: number;
  private readonly source: ByteSource;

  constructor(source: ByteSource, sizeBytes: number) {
    this.source = source;
    this.leftBytes = sizeBytes;
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    while (this.leftBytes > 0) {
      const piece = await this.source.some(this.leftBytes);
      this.leftBytes -= piece.length;
      yield piece;
    }
  }
}

/** The bytes of an archive, taken in the amounts that are wanted. */
class ByteSource {
  private readonly iterator: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  private piece: Uint8Array = new Uint8Array(0);

  constructor(bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.iterator = Symbol.asyncIterator in bytes ? bytes[Symbol.asyncIterator]() : bytes[Symbol.iterator]();
  }

  /** From 1 to `countMax` bytes; a view of the piece that came in. */
  async some(countMax: number): Promise<Uint8Array> {
    while (this.piece.length === 0) {
      const next = await this.iterator.next();
      if (next.done === true) throw invalid('it ends early');
      this.piece = next.value;
    }
    const taken = this.piece.subarray(0, countMax);
    this.piece = this.piece.subarray(taken.length);
    return taken;
  }

  /** Memory of its own. */
  async take(count: number): Promise<Uint8Array> {
    const out = new Uint8Array(count);
    for (let filled = 0; filled < count;) {
      const part = await this.some(count - filled);
      out.set(part, filled);
      filled += part.length;
    }
    return out;
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) left -= (await this.some(left)).length;
  }

  /** Lets a stream or generator behind it end, when the reader stops early. */
  async close(): Promise<void> {
    await this.iterator.return?.();
  }
}

function parseHeader(block: Uint8Array): Header {
  const header = Buffer.from(block.buffer, block.byteOffset, block.length);
  let sum = CHECKSUM_BYTES * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i++) {
    if (i < CHECKSUM_AT || i >= CHECKSUM_AT + CHECKSUM_BYTES) sum += header[i]!;
  }
  if (sum !== octal(header, CHECKSUM_AT, CHECKSUM_BYTES)) throw invalid('a header fails its checksum');
  const isPosix = header.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isPosix ? untilZero(header.subarray(345, 500)) : '';
  const name = untilZero(header.subarray(0, 100));
  return {
    path: prefix === '' ? name : `${prefix}/${name}`,
    mode: octal(header, 100, 8) & 0o777,
    type: header.toString('latin1', 156, 157),
    sizeBytes: octal(header, 124, 12),
  };
}

/** Sizes from 8 GiB on, which GNU tar writes in base 256, are not taken: no file of a data directory has more than 1 GiB. */
function octal(header: Buffer, at: number, length: number): number {
  const text = header
    .toString('latin1', at, at + length)
    .replace(/[\0 ]+$/, '')
    .trim();
  if (!/^[0-7]*$/.test(text)) throw invalid(`a header has "${text}" for a number`);
  return text === '' ? 0 : parseInt(text, 8);
}

function untilZero(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

/** Null when it says nothing about the path. */
function paxPath(content: Buffer): string | null {
  let path: string | null = null;
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const length = space < 0 ? NaN : Number(content.toString('latin1', at, space));
    if (!Number.isInteger(length) || length <= space - at || at + length > content.length) {
      throw invalid('a pax record is damaged');
    }
    const text = content.toString('utf8', space + 1, at + length - 1);
    if (text.startsWith('path=')) path = text.slice('path='.length);
    if (text.startsWith('size=')) throw invalid('a file has more than 8 GiB');
    at += length;
  }
  return path;
}

function invalid(what: string): StorageError {
  return new StorageError('invalid', `cannot read the archive: ${what}`);
}
