/**
 * Quorum arithmetic. With generation 0 (or a membership that names nobody) a quorum is a majority of the configured safekeepers. A
 * membership that names its members counts by node id, and while it moves to new members it needs a majority of both sets.
 */
import { INVALID_LSN, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Member, Membership } from './messages.js';

/** One configured safekeeper, as the counting sees it. */
export interface Voter {
  /** Null until it has greeted. */
  readonly nodeId: bigint | null;
}

function majority(count: number): number {
  return Math.floor(count / 2) + 1;
}

/** The voters of one member set; a member that no configured safekeeper has greeted as is simply absent. */
function votersOf<V extends Voter>(members: readonly Member[], voters: readonly V[]): V[] {
  const found: V[] = [];
  for (const member of members) {
    const voter = voters.find((candidate) => candidate.nodeId === member.nodeId);
    if (voter !== undefined) found.push(voter);
  }
  return found;
}

function memberSets<V extends Voter>(membership: Membership, voters: readonly V[]): { voters: V[]; size: number }[] {
  if (membership.members.length === 0) return [{ voters: [...voters], size: voters.length }];
  const sets = [membership.members];
  if (membership.newMembers.length > 0) sets.push(membership.newMembers);
  return sets.map((members) => ({ voters: votersOf(members, voters), size: members.length }));
}

/** Whether those for which `agrees` holds are a quorum. */
export function hasQuorum<V extends Voter>(
  membership: Membership,
  voters: readonly V[],
  agrees: (voter: V) => boolean,
): boolean {
  return memberSets(membership, voters).every((set) => set.voters.filter(agrees).length >= majority(set.size));
}

/** The highest LSN that a quorum has reached. */
export function quorumLsn<V extends Voter>(
  membership: Membership,
  voters: readonly V[],
  reached: (voter: V) => Lsn,
): Lsn {
  let result: Lsn | null = null;
  for (const set of memberSets(membership, voters)) {
    const lsns = set.voters.map(reached).sort((a, b) => b - a);
    const lsn = lsns[majority(set.size) - 1] ?? INVALID_LSN;
    result = result === null ? lsn : lsnMin(result, lsn);
  }
  return result ?? INVALID_LSN;
}

/** Whether a safekeeper that greeted with `nodeId` votes under this membership. */
export function isMember(membership: Membership, nodeId: bigint): boolean {
  if (membership.members.length === 0) return true;
  return [...membership.members, ...membership.newMembers].some((member) => member.nodeId === nodeId);
}
