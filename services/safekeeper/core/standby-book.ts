/**
 * What the replicas that stream from this safekeeper said about themselves, and what follows for others: the oldest transaction they
 * need (for the primary's VACUUM) and the oldest position they read pages at (for the page server's garbage collection).
 */
import { lsnMin, type Lsn } from '#shared/core/lsn.js';

export interface StandbyPositions {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
}

/** Full transaction ids; 0 = none. */
export interface StandbyXmin {
  readonly xmin: bigint;
  readonly catalogXmin: bigint;
}

export interface HotStandbyFeedback extends StandbyXmin {
  /** Microseconds since the Unix epoch. */
  readonly timeUs: number;
}

interface Standby {
  positions: StandbyPositions | null;
  xmin: StandbyXmin | null;
}

export class StandbyBook {
  private readonly standbys = new Map<number, Standby>();
  /** Once a replica has asked for rows to be kept, the primary must also hear when none does any more. */
  private everAsked = false;

  add(id: number): void {
    this.standbys.set(id, { positions: null, xmin: null });
  }

  remove(id: number): void {
    this.standbys.delete(id);
  }

  putPositions(id: number, positions: StandbyPositions): void {
    const standby = this.standbys.get(id);
    if (standby !== undefined) standby.positions = positions;
  }

  /** True when what the primary is told changes. */
  putXmin(id: number, xmin: StandbyXmin): boolean {
    const standby = this.standbys.get(id);
    if (standby === undefined) return false;
    const before = this.oldest();
    standby.xmin = xmin;
    if (xmin.xmin !== 0n || xmin.catalogXmin !== 0n) this.everAsked = true;
    const after = this.oldest();
    return before.xmin !== after.xmin || before.catalogXmin !== after.catalogXmin;
  }

  get count(): number {
    return this.standbys.size;
  }

  /** For the primary; null when no replica ever asked for anything. */
  feedback(nowUs: number): HotStandbyFeedback | null {
    return this.everAsked ? { timeUs: nowUs, ...this.oldest() } : null;
  }

  /** Lowest position a replica has applied; null = none has told. */
  get horizon(): Lsn | null {
    let lowest: Lsn | null = null;
    for (const { positions } of this.standbys.values()) {
      if (positions !== null) lowest = lowest === null ? positions.applyLsn : lsnMin(lowest, positions.applyLsn);
    }
    return lowest;
  }

  private oldest(): StandbyXmin {
    let xmin = 0n;
    let catalogXmin = 0n;
    for (const { xmin: asked } of this.standbys.values()) {
      xmin = older(xmin, asked?.xmin ?? 0n);
      catalogXmin = older(catalogXmin, asked?.catalogXmin ?? 0n);
    }
    return { xmin, catalogXmin };
  }
}

/** The lower of those that are not 0. */
function older(a: bigint, b: bigint): bigint {
  if (a === 0n) return b;
  return b === 0n || a < b ? a : b;
}
