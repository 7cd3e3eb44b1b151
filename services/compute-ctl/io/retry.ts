/** Repeats what failed for a passing reason, with growing waits. */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 2_000;

export interface RetryOptions {
  /** What is done, for the log: "fetch the base backup". */
  readonly what: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Only `unavailable` and `exhausted` are repeated, without end: the caller's signal ends it, as `cancelled`. */
export async function retryUnavailable<T>(options: RetryOptions, act: () => Promise<T>): Promise<T> {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 1.5)) {
    try {
      return await act();
    } catch (error) {
      if (options.signal.aborted) throw new StorageError('cancelled', `gave up to ${options.what}`, { cause: error });
      if (errorKind(error) !== 'unavailable' && errorKind(error) !== 'exhausted') throw error;
      options.log.warn(
        { reason: errorText(error), waitMs: Math.round(waitMs) },
        `could not ${options.what}, trying again`,
      );
      await sleep(waitMs, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

/** The promise's outcome, or `cancelled` with the signal's reason as soon as it is aborted. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new StorageError('cancelled', 'cancelled', { cause: signal.reason }));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
