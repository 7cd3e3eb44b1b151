/** Counters of the libpq edge: plain numbers, read when somebody scrapes. */
import type { LabelledValue } from '#shared/runtime/metrics.js';

const REQUEST_NAMES = ['exists', 'nblocks', 'getpage', 'dbsize', 'slru_segment'];
/** Upper bounds of the latency classes, milliseconds. */
const BOUNDS_MS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 10_000, Infinity];

export class PagestreamStats {
  connections = 0;
  /** Pages answered without waiting for anything. */
  pagesAtOnce = 0;
  /** Requests that had to wait for WAL. */
  waits = 0;
  errors = 0;
  /** Pages read with one plan, and such plans. */
  batchedPages = 0;
  batches = 0;
  inFlight = 0;
  readonly #slow = REQUEST_NAMES.map(() => 0);
  readonly #slowMs = REQUEST_NAMES.map(() => 0);
  readonly #classes = BOUNDS_MS.map(() => 0);
  readonly #onFailure: (error: unknown) => void;

  /** `onFailure` hears of errors that must not happen (damaged data, bugs). */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  reportFailure(error: unknown): void {
    this.#onFailure(error);
  }

  recordBatch(pageCount: number): void {
    this.batches++;
    this.batchedPages += pageCount;
  }

  /** A request that was answered by the slow path. */
  record(tag: number, durationMs: number): void {
    this.#slow[tag] = (this.#slow[tag] ?? 0) + 1;
    this.#slowMs[tag] = (this.#slowMs[tag] ?? 0) + durationMs;
    const index = BOUNDS_MS.findIndex((bound) => durationMs <= bound);
    this.#classes[index] = (this.#classes[index] ?? 0) + 1;
  }

  /** All requests by name. */
  requests(): LabelledValue[] {
    return REQUEST_NAMES.map((request, tag) => ({
      value: (this.#slow[tag] ?? 0) + (request === 'getpage' ? this.pagesAtOnce : 0),
      labels: { request },
    }));
  }

  /** Time spent in the slow path by request. */
  slowMilliseconds(): LabelledValue[] {
    return REQUEST_NAMES.map((request, tag) => ({ value: this.#slowMs[tag] ?? 0, labels: { request } }));
  }

  /** Cumulative counts of slow requests by upper bound, as a Prometheus histogram has them. */
  latencyClasses(): LabelledValue[] {
    let sum = 0;
    return BOUNDS_MS.map((bound, index) => {
      sum += this.#classes[index] ?? 0;
      return { value: sum, labels: { le: bound === Infinity ? '+Inf' : String(bound / 1000) } };
    });
  }
}
