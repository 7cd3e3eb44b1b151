/** Points of history: what a request names (LSN, time, snapshot, nothing) becomes a position on a timeline. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsnFromWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { findBranch, findSnapshot } from '../core/catalog.js';
import type { BranchEntry } from '../core/catalog-schema.js';
import { ownerOf } from '../core/history.js';
import type { Daemon } from '../io/daemon.js';

export interface PointRequest {
  readonly lsn: bigint;
  readonly timeMs: bigint;
  readonly snapshot: string;
}

export interface Point {
  /** Branch on whose own timeline the position lies. */
  readonly branch: BranchEntry;
  readonly lsn: Lsn;
}

/** Whether the request names anything but the head. */
export function isPointGiven(point: PointRequest | undefined): point is PointRequest {
  return point !== undefined && (point.lsn !== 0n || point.timeMs !== 0n || point.snapshot !== '');
}

/** Up to where a branch is committed; its branch point when it was never written to. */
export async function headOf(daemon: Daemon, branch: BranchEntry): Promise<Lsn> {
  const head = await daemon.timelines.head(branch);
  if (head !== INVALID_LSN) return head;
  const info = await daemon.timelines.info(branch);
  return info === null ? branch.parentLsn : lsnFromWire(info.lastRecordLsn);
}

/** The point of a branch's history that is meant; absent or empty = its head. */
export async function resolvePoint(
  daemon: Daemon,
  branch: BranchEntry,
  point: PointRequest | undefined,
): Promise<Point> {
  if (!isPointGiven(point)) return { branch, lsn: await headOf(daemon, branch) };
  const given = [point.lsn !== 0n, point.timeMs !== 0n, point.snapshot !== ''].filter(Boolean).length;
  if (given > 1) throw new StorageError('invalid', 'name the point by one of LSN, time and snapshot, not by several');
  if (point.snapshot !== '') {
    const snapshot = findSnapshot(daemon.catalog, branch.tenantId, point.snapshot);
    return { branch: findBranch(daemon.catalog, branch.tenantId, snapshot.branchName), lsn: snapshot.lsn };
  }
  const lsn = point.lsn !== 0n ? lsnFromWire(point.lsn) : await lsnAtTime(daemon, branch, Number(point.timeMs));
  const owner = ownerOf(daemon.catalog, branch, lsn);
  const head = await headOf(daemon, owner);
  if (lsn > head) {
    throw new StorageError(
      'invalid',
      `LSN ${formatLsn(lsn)} is in the future of branch "${owner.name}", whose head is ${formatLsn(head)}`,
    );
  }
  return { branch: owner, lsn };
}

/** A time before the branch point is a point of an ancestor. */
async function lsnAtTime(daemon: Daemon, branch: BranchEntry, timeMs: number): Promise<Lsn> {
  if (timeMs > Date.now() + 1000) {
    throw new StorageError('invalid', `${new Date(timeMs).toISOString()} is in the future`);
  }
  for (let at = branch; ;) {
    try {
      return await daemon.timelines.lsnAtTime(at, timeMs);
    } catch (error) {
      if (at.parentName === null) throw error;
      const parent = findBranch(daemon.catalog, at.tenantId, at.parentName);
      const onParent = await daemon.timelines.lsnAtTime(parent, timeMs).catch(() => null);
      if (onParent !== null) return onParent < at.parentLsn ? onParent : at.parentLsn;
      at = parent;
    }
  }
}
