/**
 * Collects the page requests that arrive together (one chunk of the socket, or several that waited for the same WAL) and reads those at
 * one LSN with one plan. A batch begins when the present turn of the event loop is over, so nothing ever waits for company.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { PageAddress, PageReader } from './page-reader.js';
import type { PagestreamStats } from './pagestream-stats.js';

/** Pages of one plan: bounds its memory, and how long the first of them waits for the last. */
export const BATCH_PAGES_MAX = 32;

interface Waiting {
  readonly address: PageAddress;
  readonly resolve: (page: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

export class PageBatches {
  readonly #reader: PageReader;
  readonly #signal: AbortSignal;
  readonly #stats: PagestreamStats;
  #waiting: Waiting[] = [];
  #at: Lsn | null = null;

  /** `signal` aborted: the client is gone, nothing more is read for it. */
  constructor(reader: PageReader, signal: AbortSignal, stats: PagestreamStats) {
    this.#reader = reader;
    this.#signal = signal;
    this.#stats = stats;
  }

  read(address: PageAddress, at: Lsn): Promise<Uint8Array> {
    if (this.#at !== at || this.#waiting.length >= BATCH_PAGES_MAX) this.#start();
    if (this.#waiting.length === 0) {
      this.#at = at;
      const batch = this.#waiting;
      // Not the microtask right away: the requests of one chunk, and readers woken by one advance, come within this turn.
      process.nextTick(() => {
        if (this.#waiting === batch) this.#start();
      });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ address, resolve, reject });
    });
  }

  #start(): void {
    const batch = this.#waiting;
    const at = this.#at;
    this.#waiting = [];
    this.#at = null;
    if (batch.length === 0 || at === null) return;
    const fail = (error: unknown) => batch.forEach(({ reject }) => reject(error));
    if (this.#signal.aborted) return fail(new StorageError('cancelled', 'the client went away'));
    this.#stats.recordBatch(batch.length);
    this.#reader
      .pages(
        batch.map(({ address }) => address),
        at,
        this.#signal,
      )
      .then((outcomes) => {
        outcomes.forEach((outcome, i) => {
          if (outcome instanceof StorageError) batch[i]?.reject(outcome);
          else batch[i]?.resolve(outcome);
        });
      }, fail);
  }
}
