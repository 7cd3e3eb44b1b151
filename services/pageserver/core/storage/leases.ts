/**
 * LSNs that garbage collection must leave readable: leases, which end by themselves unless they are renewed, and holds of reads and
 * branchings under way. In memory only: after a restart there is time to renew before the first collection.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnMin } from '#shared/core/lsn.js';

const LEASES_MAX = 10_000;

export class Leases {
  /** Time of their end (Unix ms) by LSN. */
  private readonly leases = new Map<Lsn, number>();
  private readonly holds = new Set<{ readonly lsn: Lsn }>();

  /** Grants or renews; never shortens. Returns when it ends. StorageError `exhausted` when there are too many. */
  grant(lsn: Lsn, durationMs: number, nowMs: number): number {
    this.expire(nowMs);
    const endMs = Math.max(this.leases.get(lsn) ?? 0, nowMs + durationMs);
    if (this.leases.size >= LEASES_MAX && !this.leases.has(lsn)) {
      throw new StorageError('exhausted', `there are ${LEASES_MAX} leases on this timeline`);
    }
    this.leases.set(lsn, endMs);
    return endMs;
  }

  /** Until the function returned is called. */
  hold(lsn: Lsn): () => void {
    const hold = { lsn };
    this.holds.add(hold);
    return () => void this.holds.delete(hold);
  }

  /** Null when nothing is leased or held. */
  oldest(nowMs: number): Lsn | null {
    this.expire(nowMs);
    let oldest: Lsn | null = null;
    for (const lsn of this.leases.keys()) oldest = oldest === null ? lsn : lsnMin(oldest, lsn);
    for (const { lsn } of this.holds) oldest = oldest === null ? lsn : lsnMin(oldest, lsn);
    return oldest;
  }

  get count(): number {
    return this.leases.size;
  }

  private expire(nowMs: number): void {
    for (const [lsn, endMs] of this.leases) if (endMs <= nowMs) this.leases.delete(lsn);
  }
}
