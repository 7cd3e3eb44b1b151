/**
 * Object store: one interface, two real versions (a local directory, an S3 API). Objects are immutable in use: a key is written once
 * with one content, or rewritten whole. `put` is durable when it returns; a reader sees the old or the new object, never a part.
 */
import { openLocalStore } from './object-store-local.js';

export interface ObjectStore {
  /** For logs; without credentials. */
  readonly url: string;
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Uploads a file of any size. */
  putFile(key: string, path: string, signal?: AbortSignal): Promise<void>;
  /** Whole object. A missing one is StorageError `not-found`. */
  get(key: string, signal?: AbortSignal): Promise<Uint8Array>;
  /** Bytes [start, end) of an object; StorageError `corrupt` when it is shorter. */
  getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Downloads into a new file and fsyncs it (not its directory). */
  getToFile(key: string, path: string, signal?: AbortSignal): Promise<void>;
  /** Null when it does not exist. */
  head(key: string, signal?: AbortSignal): Promise<{ readonly sizeBytes: number } | null>;
  /** All keys that begin with the prefix, in byte order. */
  list(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /** Names one level below the prefix that continue with "/" (like directories), without the slash. */
  listPrefixes(prefix: string, signal?: AbortSignal): Promise<string[]>;
  /** Removes keys; missing ones are fine. */
  delete(keys: readonly string[], signal?: AbortSignal): Promise<void>;
}

/** Keys are made by our code: lower-case path segments; this catches mistakes before they reach a disk. */
export function isValidObjectKey(key: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.=-]*(\/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*$/.test(key) && key.length <= 900;
}

/**
 * Opens `file:///abs/dir` (or a plain absolute path) or `s3://bucket/prefix?endpoint=URL&region=R&path_style=true`. S3 credentials come
 * from the AWS chain (environment, profile, instance). Throws StorageError `invalid` for another URL.
 */
export async function openObjectStore(url: string): Promise<ObjectStore> {
  if (!url.startsWith('s3://')) return openLocalStore(url);
  // The client takes longer to load than the rest of a service; who keeps objects in a directory does not wait for it.
  const { openS3Store } = await import('./object-store-s3.js');
  return openS3Store(url);
}
