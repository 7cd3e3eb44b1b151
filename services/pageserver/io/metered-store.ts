/**
 * The object store of a page server with bounds on how many transfers run at once, so that many tenants do not open a connection each, and
 * with counts, times and traces of every request. One a process, below everything else.
 */
import { SpanStatusCode, trace } from '@opentelemetry/api';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { ObjectInfo, ObjectStore } from '#shared/io/object-store.js';

/** Uploads and downloads at once, each: enough to fill a network, few enough to bound memory and sockets. */
const TRANSFERS_MAX = 16;

export const REMOTE_OPERATIONS = [
  'put',
  'create',
  'put_file',
  'get',
  'get_range',
  'get_to_file',
  'head',
  'list',
  'delete',
] as const;
export type RemoteOperation = (typeof REMOTE_OPERATIONS)[number];

export class OperationStats {
  count = 0;
  failureCount = 0;
  milliseconds = 0;
  bytes = 0;
  inFlight = 0;
  /** For a turn. */
  waiting = 0;
}

class Slots {
  private free = TRANSFERS_MAX;
  private readonly waiters: Array<() => void> = [];

  async take(): Promise<void> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  give(): void {
    const next = this.waiters.shift();
    if (next === undefined) this.free++;
    else next();
  }
}

export class MeteredStore implements ObjectStore {
  readonly url: string;
  readonly stats: Readonly<Record<RemoteOperation, OperationStats>>;
  private readonly retries: () => number;
  private readonly inner: ObjectStore;
  private readonly uploads = new Slots();
  private readonly downloads = new Slots();
  private readonly tracer = trace.getTracer('pageserver');

  /** `retries`: further tries so far, which whoever opened the store counts. */
  constructor(inner: ObjectStore, retries: () => number) {
    this.inner = inner;
    this.retries = retries;
    this.url = inner.url;
    const all = REMOTE_OPERATIONS.map((operation) => [operation, new OperationStats()] as const);
    this.stats = Object.fromEntries(all) as Record<RemoteOperation, OperationStats>;
  }

  get retryCount(): number {
    return this.retries();
  }

  private async measure<T>(operation: RemoteOperation, key: string, act: () => Promise<T>): Promise<T> {
    const stats = this.stats[operation];
    const span = this.tracer.startSpan(`object store ${operation}`, { attributes: { key } });
    const startedMs = performance.now();
    stats.count++;
    stats.inFlight++;
    try {
      return await act();
    } catch (error) {
      // A missing object is an answer.
      if (errorKind(error) !== 'not-found') {
        stats.failureCount++;
        span.setStatus({ code: SpanStatusCode.ERROR, message: errorText(error) });
      }
      throw error;
    } finally {
      stats.inFlight--;
      stats.milliseconds += performance.now() - startedMs;
      span.end();
    }
  }

  private async inTurn<T>(slots: Slots, operation: RemoteOperation, request: Turn<T>): Promise<T> {
    const stats = this.stats[operation];
    stats.waiting++;
    await slots.take();
    stats.waiting--;
    try {
      if (request.signal?.aborted === true)
        throw new StorageError('cancelled', `gave up waiting for a turn of ${request.key}`);
      return await this.measure(operation, request.key, request.act);
    } finally {
      slots.give();
    }
  }

  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.stats.put.bytes += bytes.length;
    return this.measure('put', key, () => this.inner.put(key, bytes, signal));
  }

  create(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    this.stats.create.bytes += bytes.length;
    return this.measure('create', key, () => this.inner.create(key, bytes, signal));
  }

  putFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    return this.inTurn(this.uploads, 'put_file', { key, signal, act: () => this.inner.putFile(key, path, signal) });
  }

  async get(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = await this.measure('get', key, () => this.inner.get(key, signal));
    this.stats.get.bytes += bytes.length;
    return bytes;
  }

  async getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = await this.measure('get_range', key, () => this.inner.getRange(key, start, end, signal));
    this.stats.get_range.bytes += bytes.length;
    return bytes;
  }

  getToFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    return this.inTurn(this.downloads, 'get_to_file', {
      key,
      signal,
      act: () => this.inner.getToFile(key, path, signal),
    });
  }

  head(key: string, signal?: AbortSignal): Promise<{ readonly sizeBytes: number } | null> {
    return this.measure('head', key, () => this.inner.head(key, signal));
  }

  list(prefix: string, signal?: AbortSignal): Promise<string[]> {
    return this.measure('list', prefix, () => this.inner.list(prefix, signal));
  }

  listObjects(prefix: string, signal?: AbortSignal): Promise<ObjectInfo[]> {
    return this.measure('list', prefix, () => this.inner.listObjects(prefix, signal));
  }

  listPrefixes(prefix: string, signal?: AbortSignal): Promise<string[]> {
    return this.measure('list', prefix, () => this.inner.listPrefixes(prefix, signal));
  }

  delete(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    return this.measure('delete', keys[0] ?? '', () => this.inner.delete(keys, signal));
  }
}

interface Turn<T> {
  readonly key: string;
  readonly signal: AbortSignal | undefined;
  readonly act: () => Promise<T>;
}
