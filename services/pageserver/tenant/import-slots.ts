/** Imports of one tenant that are under way: one a timeline, a few at a time, ended together when the tenant stops. */
import { StorageError } from '#shared/core/errors.js';
import type { TimelineId } from '#shared/core/ids.js';
import type { Timeline } from '../io/timeline.js';
import type { ImportProgress, ImportSource, ImportTarget } from './import-timeline.js';
import { importTimeline } from './import-timeline.js';

/** Each holds in-memory layers and a stream. */
const IMPORTS_MAX = 4;

interface Slot {
  readonly abort: AbortController;
  readonly done: Promise<unknown>;
}

export class ImportSlots {
  readonly #running = new Map<TimelineId, Slot>();

  /** Throws StorageError `already-exists` while the timeline is being imported. */
  refuse(timelineId: TimelineId): void {
    if (!this.#running.has(timelineId)) return;
    throw new StorageError('already-exists', `timeline ${timelineId} is being imported`);
  }

  /** `adopt` takes the finished timeline over, without waiting. */
  async run<T>(
    target: Omit<ImportTarget, 'signal'>,
    source: ImportSource,
    options: { readonly progress: ImportProgress; readonly signal: AbortSignal },
    adopt: (timeline: Timeline) => T,
  ): Promise<T> {
    const { timelineId } = target.ttid;
    this.refuse(timelineId);
    if (this.#running.size >= IMPORTS_MAX) {
      throw new StorageError('exhausted', `${IMPORTS_MAX} imports of this tenant are under way already`);
    }
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, options.signal]);
    const done = importTimeline({ ...target, signal }, source, options.progress);
    this.#running.set(timelineId, { abort, done });
    try {
      return adopt(await done);
    } finally {
      this.#running.delete(timelineId);
    }
  }

  async stop(): Promise<void> {
    const slots = [...this.#running.values()];
    for (const { abort } of slots) abort.abort(new StorageError('cancelled', 'the tenant is stopping'));
    await Promise.allSettled(slots.map(({ done }) => done));
  }
}
