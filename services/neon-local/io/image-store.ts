/** Images of snapshots in another storage (layout: core/image-manifest.ts): pushed, pulled, listed. */
import { createHash } from 'node:crypto';
import { isAbsolute } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setImmediate as turnOfOthers } from 'node:timers/promises';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import type { S3Options } from '#gen/neon/control/v1/storage.js';
import { errorKind, StorageError } from '#shared/core/errors.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { Chunker, CHUNK_BYTES_MAX } from '../core/chunker.js';
import { CHUNK_PREFIX, chunkKey, manifestKey, MANIFEST_PREFIX, manifestSchema } from '../core/image-manifest.js';
import type { ImageManifest } from '../core/image-manifest.js';
import { s3Keys, s3Url } from '../core/s3-place.js';
import { TarWalk } from '../core/tar-walk.js';
import type { Progress } from './operations.js';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** Chunks under way at once: 4 MiB each at most, and enough to hide the latency of S3. */
const PARALLEL_MAX = 8;
const COMPRESSION_LEVEL = 3;
const CONTROL_PATH = 'global/pg_control';

/** s3://…, file://… or an absolute directory. */
export async function openImageStore(url: string, s3: S3Options | undefined): Promise<ObjectStore> {
  if (url.startsWith('s3://')) return openObjectStore(s3Url(url, s3), { keys: s3Keys(s3) });
  if (url.startsWith('file://')) return openObjectStore(url);
  if (!isAbsolute(url))
    throw new StorageError('invalid', `"${url}" is neither s3://bucket/prefix nor an absolute directory`);
  return openObjectStore(pathToFileURL(url).href);
}

export async function readManifest(store: ObjectStore, snapshotName: string): Promise<ImageManifest> {
  let bytes: Uint8Array;
  try {
    bytes = await store.get(manifestKey(snapshotName));
  } catch (error) {
    if (errorKind(error) !== 'not-found') throw error;
    const names = (await store.list(MANIFEST_PREFIX)).map((key) => key.slice(MANIFEST_PREFIX.length, -'.json'.length));
    const hint = names.length === 0 ? 'there is none' : `there are: ${names.slice(0, 20).join(', ')}`;
    throw new StorageError('not-found', `${store.url} has no snapshot "${snapshotName}" (${hint})`);
  }
  try {
    return manifestSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw new StorageError('corrupt', `the manifest of snapshot "${snapshotName}" in ${store.url} is damaged`, {
      cause,
    });
  }
}

/** Runs tasks beside each other, PARALLEL_MAX at most; the first failure is thrown by the next call. */
class Parallel {
  private readonly running = new Set<Promise<void>>();
  private failure: unknown = null;

  async add(task: () => Promise<void>): Promise<void> {
    while (this.running.size >= PARALLEL_MAX) await Promise.race(this.running);
    this.check();
    const run: Promise<void> = task().then(
      () => void this.running.delete(run),
      (error: unknown) => {
        this.failure ??= error;
        this.running.delete(run);
      },
    );
    this.running.add(run);
  }

  async finish(): Promise<void> {
    await Promise.all(this.running);
    this.check();
  }

  private check(): void {
    if (this.failure !== null) throw this.failure;
  }
}

export interface PushInput {
  readonly store: ObjectStore;
  readonly archive: AsyncIterable<Buffer>;
  /** Known when the archive has ended. */
  readonly describe: () => Pick<ImageManifest, 'name' | 'branchName' | 'lsn' | 'pgMajorVersion' | 'relationBytes'>;
  readonly nowMs: number;
  readonly progress: Progress;
}

/** Writes the chunks that are not there yet, then the manifest. What an interrupted push wrote is found again. */
export async function pushImage(input: PushInput): Promise<{ manifest: ImageManifest; newBytes: number }> {
  const { store, progress } = input;
  const present = new Set(
    (await store.list(CHUNK_PREFIX, progress.signal)).map((key) => key.slice(key.lastIndexOf('/') + 1)),
  );
  const chunker = new Chunker();
  const walk = new TarWalk(CONTROL_PATH);
  const uploads = new Parallel();
  const chunks: [string, number][] = [];
  const totals = { all: 0, reused: 0, fresh: 0 };
  const take = async (chunk: Buffer): Promise<void> => {
    const hash = createHash('sha256').update(chunk).digest('hex');
    chunks.push([hash, chunk.length]);
    const isKnown = present.has(hash);
    if (isKnown) {
      totals.reused += chunk.length;
      totals.all += chunk.length;
      progress.done(totals.all, totals.reused);
      return;
    }
    present.add(hash);
    await uploads.add(async () => {
      const stored = await compress(chunk, { params: { [constants.ZSTD_c_compressionLevel]: COMPRESSION_LEVEL } });
      await store.put(chunkKey(hash), stored, progress.signal);
      totals.all += chunk.length;
      totals.fresh += stored.length;
      progress.done(totals.all, totals.reused);
    });
  };
  for await (const piece of input.archive) {
    for (const part of walk.feed(piece)) for (const chunk of chunker.feed(part)) await take(chunk);
    // Cutting and hashing is work: whoever asks the daemon something meanwhile is answered.
    await turnOfOthers();
  }
  const rest = chunker.finish();
  if (rest !== null) await take(rest);
  await uploads.finish();
  if (walk.foundAt < 0) throw new StorageError('corrupt', `the archive has no ${CONTROL_PATH}`);
  const manifest: ImageManifest = {
    ...{ version: 1, ...input.describe(), createdAtMs: input.nowMs, chunks },
    totalBytes: chunks.reduce((sum, [, size]) => sum + size, 0),
    control: { offset: walk.foundAt, base64: walk.entry.toString('base64') },
  };
  await store.put(manifestKey(manifest.name), Buffer.from(JSON.stringify(manifest)), progress.signal);
  return { manifest, newBytes: totals.fresh };
}

async function readChunk(store: ObjectStore, hash: string, sizeBytes: number, signal: AbortSignal): Promise<Buffer> {
  const stored = await store.get(chunkKey(hash), signal);
  const damaged = (cause?: unknown) =>
    new StorageError('corrupt', `chunk ${hash} in ${store.url} is damaged`, { cause });
  let chunk: Buffer;
  try {
    chunk = await decompress(stored, { maxOutputLength: CHUNK_BYTES_MAX });
  } catch (cause) {
    throw damaged(cause);
  }
  if (chunk.length !== sizeBytes || createHash('sha256').update(chunk).digest('hex') !== hash) throw damaged();
  return chunk;
}

/** Keeps chunks that were read, so that an interrupted pull need not read them again. */
export interface ChunkCache {
  get(hash: string): Promise<Buffer | null>;
  put(hash: string, chunk: Buffer): Promise<void>;
}

/** The archive, pg_control first. Every chunk is checked; some are read ahead. */
export async function* pullImage(
  store: ObjectStore,
  manifest: ImageManifest,
  cache: ChunkCache,
  progress: Progress,
): AsyncGenerator<Buffer> {
  const { signal } = progress;
  const control = Buffer.from(manifest.control.base64, 'base64');
  const cut = { from: manifest.control.offset, to: manifest.control.offset + control.length };
  yield control;
  const read = async ([hash, size]: readonly [string, number]): Promise<{ chunk: Buffer; isReused: boolean }> => {
    const kept = await cache.get(hash);
    if (kept?.length === size) return { chunk: kept, isReused: true };
    const chunk = await readChunk(store, hash, size, signal);
    await cache.put(hash, chunk);
    return { chunk, isReused: false };
  };
  const ahead: ReturnType<typeof read>[] = [];
  let next = 0;
  const totals = { all: 0, reused: 0 };
  for (;;) {
    for (; ahead.length < PARALLEL_MAX && next < manifest.chunks.length; next++) {
      const reading = read(manifest.chunks[next] ?? ['', 0]);
      // It is awaited below, perhaps after others failed.
      reading.catch(() => undefined);
      ahead.push(reading);
    }
    const first = ahead.shift();
    if (first === undefined) return;
    signal.throwIfAborted();
    const { chunk, isReused } = await first;
    const from = totals.all;
    totals.all += chunk.length;
    if (isReused) totals.reused += chunk.length;
    const before = chunk.subarray(0, Math.max(0, Math.min(chunk.length, cut.from - from)));
    const after = chunk.subarray(Math.max(0, Math.min(chunk.length, cut.to - from)));
    if (before.length > 0) yield before;
    if (after.length > 0) yield after;
    progress.done(totals.all, totals.reused);
  }
}
