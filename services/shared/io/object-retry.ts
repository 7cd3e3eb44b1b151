/**
 * Tries of a request to a remote object store. Every try has a watchdog that ends it when nothing moves; pauses between tries are
 * random (full jitter), so that clients who failed together do not come back together; their number is bounded, so that a caller with a
 * plan of its own learns of the trouble.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { errorKind, StorageError } from '../core/errors.js';
import type { RemoteOptions } from './object-store.js';

export type RetryPolicy = Required<RemoteOptions>;

/** Eight tries take 6 s on average, 13 s at most, besides the time of the tries: longer than a restart of a load balancer. */
const DEFAULTS: RetryPolicy = {
  attemptsMax: 8,
  pauseMinMs: 100,
  pauseMaxMs: 5_000,
  idleTimeoutMs: 30_000,
  // S3 wants at least 5 MiB and at most 10,000 parts: good for files of 625 GiB. A failed try sends at most this much again.
  partBytes: 64 << 20,
  onRetry: () => undefined,
};

export function retryPolicy(options: RemoteOptions): RetryPolicy {
  return { ...DEFAULTS, ...options };
}

/** Upper end of the pause after this many failed tries. */
export function pauseLimitMs(attempt: number, policy: Pick<RetryPolicy, 'pauseMinMs' | 'pauseMaxMs'>): number {
  return Math.min(policy.pauseMaxMs, policy.pauseMinMs * 2 ** (attempt - 1));
}

/** Of one try: `signal` ends it, `alive` says that something moved. */
export interface Attempt {
  readonly number: number;
  readonly signal: AbortSignal;
  alive(): void;
}

export interface RetriedRequest<T> {
  /** For messages: "could not read object …". */
  readonly doing: string;
  readonly signal: AbortSignal | undefined;
  /** A failure of kind `unavailable` is tried again, every other is final. */
  readonly act: (attempt: Attempt) => Promise<T>;
  /** What a thrown value means. */
  readonly explain: (doing: string, error: unknown) => StorageError;
}

async function tryOnce<T>(number: number, request: RetriedRequest<T>, policy: RetryPolicy): Promise<T> {
  const watchdog = new AbortController();
  const { idleTimeoutMs } = policy;
  const timer = setTimeout(() => watchdog.abort(), idleTimeoutMs);
  const signal = request.signal ? AbortSignal.any([watchdog.signal, request.signal]) : watchdog.signal;
  try {
    return await request.act({ number, signal, alive: () => timer.refresh() });
  } catch (error) {
    if (request.signal?.aborted === true) throw new StorageError('cancelled', request.doing, { cause: error });
    if (!watchdog.signal.aborted) throw request.explain(request.doing, error);
    const text = `${request.doing}: nothing happened for ${idleTimeoutMs} ms`;
    throw new StorageError('unavailable', text, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Throws the failure of the last try, `cancelled` when the caller's signal ended it. */
export async function withRetries<T>(request: RetriedRequest<T>, policy: RetryPolicy): Promise<T> {
  for (let number = 1; ; number++) {
    if (request.signal?.aborted === true) throw new StorageError('cancelled', request.doing);
    try {
      return await tryOnce(number, request, policy);
    } catch (error) {
      if (errorKind(error) !== 'unavailable') throw error;
      if (number >= policy.attemptsMax) {
        throw new StorageError('unavailable', `${request.doing}, tried ${number} times`, { cause: error });
      }
      policy.onRetry({ doing: request.doing, attempt: number, error });
      const options = request.signal ? { signal: request.signal } : {};
      await delay(Math.random() * pauseLimitMs(number, policy), undefined, options).catch(() => undefined);
    }
  }
}
