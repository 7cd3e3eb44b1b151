/** Readers that wait until a position is reached, with time-out and abort. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';

interface Waiter {
  readonly lsn: Lsn;
  readonly settle: (error: StorageError | null) => void;
}

export class LsnWaiters {
  private readonly waiters = new Set<Waiter>();
  /** Lowest LSN waited for: most advances wake nobody and cost one comparison. */
  private lowest: Lsn = MAX_LSN;

  get count(): number {
    return this.waiters.size;
  }

  /** StorageError `unavailable` on time-out, `cancelled` on abort. */
  wait(lsn: Lsn, timeoutMs: number, signal: AbortSignal | undefined, describe: () => string): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(new StorageError('cancelled', 'the reader went away'));
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        lsn,
        settle: (error) => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          this.waiters.delete(waiter);
          if (error === null) resolve();
          else reject(error);
        },
      };
      const onAbort = () => waiter.settle(new StorageError('cancelled', 'the reader went away'));
      const timer = setTimeout(() => {
        const text = `WAL up to ${formatLsn(lsn)} did not arrive within ${timeoutMs} ms; ${describe()}`;
        waiter.settle(new StorageError('unavailable', text));
      }, timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.waiters.add(waiter);
      if (lsn < this.lowest) this.lowest = lsn;
    });
  }

  reached(lsn: Lsn): void {
    if (lsn < this.lowest) return;
    this.lowest = MAX_LSN;
    for (const waiter of this.waiters) {
      if (waiter.lsn <= lsn) waiter.settle(null);
      else if (waiter.lsn < this.lowest) this.lowest = waiter.lsn;
    }
  }

  failAll(error: StorageError): void {
    for (const waiter of this.waiters) waiter.settle(error);
    this.lowest = MAX_LSN;
  }
}
