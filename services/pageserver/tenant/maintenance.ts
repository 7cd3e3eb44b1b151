/**
 * Work that is due by time: compaction that no flush has started, and garbage collection. One timeline after the other, so that one
 * server never does much at a time; a failure is logged and met again at the next turn.
 */
import { errorKind, errorText } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ActiveTimeline } from './active-timeline.js';

export interface MaintenanceOptions {
  readonly compactionPeriodMs: number;
  /** 0 = no collection but on request. The first comes a period after the start: leases are lost by a restart, and can be renewed till then. */
  readonly gcPeriodMs: number;
}

export class Maintenance {
  readonly #timelines: () => Iterable<ActiveTimeline>;
  readonly #log: Logger;
  readonly #timers: NodeJS.Timeout[] = [];
  #collecting: Promise<void> | null = null;
  #isStopping = false;

  constructor(timelines: () => Iterable<ActiveTimeline>, log: Logger) {
    this.#timelines = timelines;
    this.#log = log;
  }

  start({ compactionPeriodMs, gcPeriodMs }: MaintenanceOptions): void {
    this.#every(compactionPeriodMs, () => {
      for (const { store } of this.#timelines()) store.kickCompaction();
    });
    if (gcPeriodMs === 0) return;
    this.#every(gcPeriodMs, () => {
      this.#collecting ??= this.#collectAll().finally(() => (this.#collecting = null));
    });
  }

  #every(periodMs: number, act: () => void): void {
    this.#timers.push(setInterval(act, periodMs).unref());
  }

  async #collectAll(): Promise<void> {
    for (const { ttid, store } of [...this.#timelines()]) {
      if (this.#isStopping || store.isClosed) continue;
      try {
        await store.collectGarbage();
        await store.compactHistory();
      } catch (error) {
        if (errorKind(error) === 'cancelled') continue;
        this.#log.warn({ timeline: formatTtid(ttid), reason: errorText(error) }, 'could not collect garbage');
      }
    }
  }

  /** The timelines are closed by their owner: that ends what is under way. */
  stop(): void {
    this.#isStopping = true;
    for (const timer of this.#timers) clearInterval(timer);
  }
}
