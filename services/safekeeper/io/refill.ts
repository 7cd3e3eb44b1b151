/**
 * Timelines that a proposer wants here and that others have already: this safekeeper's disk was lost, or it is new. They are pulled
 * from the peers that the broker knows, or from the object store, before anything is answered for them.
 *
 * For configurations without members (generation 0) only. A safekeeper that comes back empty under its old id has forgotten its votes; the
 * pull takes over the highest term that its peers know, which leaves the case of an election that was under way while the disk
 * was lost. A membership change with a new id has no such case.
 */
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatTtid, type TenantTimelineId } from '#shared/core/ids.js';
import type { Logger } from '#shared/runtime/log.js';
import { pullTimeline, type PullDeps } from './pull.js';

/** How long answers of peers are waited for; they come in a few milliseconds. */
export const DISCOVERY_MS = 400;

export interface RefillOptions extends PullDeps {
  /** Addresses of peers that have WAL of a timeline. */
  readonly discover: (ttid: TenantTimelineId) => Promise<string[]>;
  readonly log: Logger;
}

export class Refill {
  private readonly options: RefillOptions;
  private readonly running = new Map<string, Promise<void>>();

  constructor(options: RefillOptions) {
    this.options = options;
  }

  /** Returns when nobody has the timeline; throws `unavailable` while it is being fetched. */
  async check(ttid: TenantTimelineId): Promise<void> {
    const key = formatTtid(ttid);
    if (!this.running.has(key)) {
      const sourceAddrs = await this.options.discover(ttid);
      const stored = sourceAddrs.length > 0 ? [] : await this.options.objects?.controls(ttid);
      if (sourceAddrs.length === 0 && (stored ?? []).length === 0) return;
      this.start(ttid, sourceAddrs);
    }
    throw new StorageError('unavailable', `timeline ${key} is being fetched from others`);
  }

  private start(ttid: TenantTimelineId, sourceAddrs: readonly string[]): void {
    const key = formatTtid(ttid);
    if (this.running.has(key)) return;
    const run = pullTimeline(this.options, { ttid, sourceAddrs, membership: null })
      .then(
        () => undefined,
        (error: unknown) => {
          this.options.log.warn({ timeline: key, reason: errorText(error) }, 'could not fetch timeline from others');
        },
      )
      .finally(() => this.running.delete(key));
    this.running.set(key, run);
  }

  async stop(): Promise<void> {
    await Promise.allSettled(this.running.values());
  }
}
