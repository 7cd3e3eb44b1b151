/**
 * Object store: one interface, two real versions (a local directory, an S3 API). Objects are immutable in use: a key is written once
 * with one content, or rewritten whole. `put` is durable when it returns; a reader sees the old or the new object, never a part. What
 * was written is seen by every later read and listing, whoever makes it. No key may be the directory of another ("a" and "a/b").
 */
import type { S3Keys } from '../core/s3-keys.js';
import { openLocalStore } from './object-store-local.js';

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** Unix time of its writing, by the store's clock. */
  readonly modifiedMs: number;
}

export interface ObjectStore {
  /** For logs; without credentials. */
  readonly url: string;
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Writes an object only if there is none of that key; of several who try at once one succeeds. False when it exists with other bytes.
   * An object with the very same bytes counts as written by this call (its answer may have been lost): let the bytes name the writer.
   */
  create(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean>;
  /** Uploads a file of any size, which must not change meanwhile. */
  putFile(key: string, path: string, signal?: AbortSignal): Promise<void>;
  /** Whole object. A missing one is StorageError `not-found`. */
  get(key: string, signal?: AbortSignal): Promise<Uint8Array>;
  /** Bytes [start, end) of an object; StorageError `corrupt` when it is shorter. */
  getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Downloads into a file, which it replaces, and fsyncs it (not its directory). After a failure the file may be there, unfinished. */
  getToFile(key: string, path: string, signal?: AbortSignal): Promise<void>;
  /** Null when it does not exist. */
  head(key: string, signal?: AbortSignal): Promise<{ readonly sizeBytes: number } | null>;
  /** All keys that begin with the prefix, in byte order. */
  list(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /** As `list`, with size and age. */
  listObjects(prefix: string, signal?: AbortSignal): Promise<ObjectInfo[]>;
  /** Names one level below the prefix that continue with "/" (like directories), without the slash. */
  listPrefixes(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /** Removes keys; missing ones are fine. */
  delete(keys: readonly string[], signal?: AbortSignal): Promise<void>;
}

/** Of a store that is reached over a network. */
export interface RemoteOptions {
  /** Tries of one request before its failure is passed on. */
  readonly attemptsMax?: number;
  /** Upper end of the first pause; doubled with each try up to pauseMaxMs. The pause itself is random below that. */
  readonly pauseMinMs?: number;
  readonly pauseMaxMs?: number;
  /** A request without any progress for so long is given up and tried again. */
  readonly idleTimeoutMs?: number;
  /** Larger files are uploaded in parts of this size. */
  readonly partBytes?: number;
  /** Called before each further try. */
  readonly onRetry?: (failure: { readonly doing: string; readonly attempt: number; readonly error: unknown }) => void;
}

export interface StoreOptions extends RemoteOptions {
  /** Instead of those that the AWS chain finds. */
  readonly keys?: S3Keys | undefined;
}

/** Keys are made by our code: lower-case path segments; this catches mistakes before they reach a disk. */
export function isValidObjectKey(key: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.=-]*(\/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*$/.test(key) && key.length <= 900;
}

/** Bytewise, as S3 lists. */
export function compareObjectKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Opens `file:///abs/dir` (or a plain absolute path) or `s3://bucket/prefix?endpoint=URL&region=R&path_style=true`. S3 credentials are
 * `options.keys` or come from the AWS chain (environment, profile, instance). Throws StorageError `invalid` for another URL.
 */
export async function openObjectStore(url: string, options: StoreOptions = {}): Promise<ObjectStore> {
  if (!url.startsWith('s3://')) return openLocalStore(url);
  // The client takes longer to load than the rest of a service; who keeps objects in a directory does not wait for it.
  const { openS3Store } = await import('./object-store-s3.js');
  return openS3Store(url, options);
}
