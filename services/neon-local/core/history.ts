/** Where branches meet: which branch owns a position, and what two branches have in common. Pure. */
import { lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { BranchEntry, Catalog } from './catalog-schema.js';

function parentOf(catalog: Catalog, branch: BranchEntry): BranchEntry | null {
  if (branch.parentName === null) return null;
  return (
    catalog.branches.find((entry) => entry.tenantId === branch.tenantId && entry.name === branch.parentName) ?? null
  );
}

/** The branch on whose own timeline a position of a branch's history lies: itself, or an ancestor when it lies before the branch point. */
export function ownerOf(catalog: Catalog, branch: BranchEntry, at: Lsn): BranchEntry {
  let owner = branch;
  for (let parent = parentOf(catalog, owner); parent !== null && at < owner.parentLsn;) {
    owner = parent;
    parent = parentOf(catalog, owner);
  }
  return owner;
}

export interface CommonPoint {
  readonly branch: BranchEntry;
  readonly lsn: Lsn;
}

/** The newest point that both branches passed; null when they have no common ancestor. Heads are where each ends now. */
export function commonPoint(
  catalog: Catalog,
  left: { readonly branch: BranchEntry; readonly head: Lsn },
  right: { readonly branch: BranchEntry; readonly head: Lsn },
): CommonPoint | null {
  const ends = new Map<string, Lsn>();
  let at: BranchEntry | null = left.branch;
  let end = left.head;
  while (at !== null) {
    ends.set(at.timelineId, end);
    end = lsnMin(end, at.parentLsn);
    at = parentOf(catalog, at);
  }
  at = right.branch;
  end = right.head;
  while (at !== null) {
    const other = ends.get(at.timelineId);
    if (other !== undefined) return { branch: at, lsn: lsnMin(end, other) };
    end = lsnMin(end, at.parentLsn);
    at = parentOf(catalog, at);
  }
  return null;
}
