/**
 * Bodies of objects on their way: what is sent is described beforehand (length, MD5 for the server to compare, CRC-32 to be kept with
 * the object), what comes is counted and compared, so that a body that broke off is never taken for the whole.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline, Transform } from 'node:stream';
import type { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import { StorageError } from '../core/errors.js';
import { writeAll } from './files.js';
import type { Attempt } from './object-retry.js';

const READ_BYTES = 1 << 18;

export interface FilePart {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly md5: string;
}

export interface FileDigest {
  readonly sizeBytes: number;
  /** 8 hex digits. */
  readonly crc: string;
  /** At least one, also of an empty file. */
  readonly parts: readonly FilePart[];
}

export function crcText(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}

/** One pass over a file: CRC of the whole, MD5 of each part. */
export async function digestFile(path: string, partBytes: number): Promise<FileDigest> {
  const parts: FilePart[] = [];
  let crc = 0;
  let start = 0;
  let at = 0;
  let md5 = createHash('md5');
  const closePart = (): void => {
    parts.push({ start, end: at, md5: md5.digest('base64') });
    start = at;
    md5 = createHash('md5');
  };
  for await (const data of createReadStream(path, { highWaterMark: READ_BYTES })) {
    let chunk = data as Buffer;
    crc = crc32(chunk, crc);
    while (chunk.length > 0) {
      if (at - start === partBytes) closePart();
      const piece = chunk.subarray(0, partBytes - (at - start));
      md5.update(piece);
      at += piece.length;
      chunk = chunk.subarray(piece.length);
    }
  }
  closePart();
  return { sizeBytes: at, crc: crcText(crc), parts };
}

/**
 * Bytes [start, end) of a file for one try of a request. Nothing is read before the client asks for it: it may wait for the server's
 * consent (100 Continue) first.
 */
export function fileBody(path: string, range: { start: number; end: number }, attempt: Attempt): Readable {
  const body = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      attempt.alive();
      done(null, chunk);
    },
  });
  const isEmpty = range.end <= range.start;
  const options = isEmpty ? {} : { start: range.start, end: range.end - 1 };
  // A failure of either ends the other, and so the request.
  pipeline(createReadStream(path, { highWaterMark: READ_BYTES, ...options }), body, () => undefined);
  return body;
}

export interface IncomingBody {
  readonly stream: Readable;
  /** By the response's header. */
  readonly lengthBytes: number | undefined;
  /** CRC-32 kept with the object; undefined for a part of it, or an object that others wrote. */
  readonly crc: string | undefined;
}

async function* checkedChunks(body: IncomingBody, attempt: Attempt): AsyncGenerator<Buffer> {
  let crc = 0;
  let length = 0;
  try {
    for await (const data of body.stream) {
      const chunk = data as Buffer;
      attempt.alive();
      // The stream itself is not always told of the end of a try.
      if (attempt.signal.aborted) throw new StorageError('unavailable', 'given up');
      length += chunk.length;
      if (body.crc !== undefined) crc = crc32(chunk, crc);
      yield chunk;
    }
  } finally {
    body.stream.destroy();
  }
  if (length !== body.lengthBytes) {
    throw new StorageError(
      'unavailable',
      `the body broke off: ${length} bytes of ${body.lengthBytes ?? 'an unknown length'}`,
    );
  }
  if (body.crc !== undefined && crcText(crc) !== body.crc) {
    throw new StorageError('unavailable', `the body has CRC ${crcText(crc)}, the object ${body.crc}`);
  }
}

/** A stream that nobody reads on must not wait for ever when the try is given up. */
function endWithAttempt(stream: Readable, signal: AbortSignal): () => void {
  const end = (): void => void stream.destroy(new Error('given up'));
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  return () => signal.removeEventListener('abort', end);
}

/** Throws StorageError `unavailable` unless the whole body came, undamaged. */
export async function readBody(body: IncomingBody, attempt: Attempt): Promise<Buffer> {
  const release = endWithAttempt(body.stream, attempt.signal);
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of checkedChunks(body, attempt)) chunks.push(chunk);
    return Buffer.concat(chunks);
  } finally {
    release();
  }
}

/** Into a file, fsynced. Throws as `readBody`. */
export async function saveBody(body: IncomingBody, path: string, attempt: Attempt): Promise<void> {
  const release = endWithAttempt(body.stream, attempt.signal);
  try {
    const handle = await open(path, 'w', 0o600);
    try {
      for await (const chunk of checkedChunks(body, attempt)) await writeAll(handle, chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } finally {
    release();
    body.stream.destroy();
  }
}
