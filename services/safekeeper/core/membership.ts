/** Rules about the voters' configuration. */
import { StorageError } from '#shared/core/errors.js';
import type { ControlState, Membership } from './acceptor-types.js';

export const NO_MEMBERSHIP: Membership = { generation: 0, members: [], newMembers: [] };

export function isMember(membership: Membership, nodeId: number): boolean {
  return [...membership.members, ...membership.newMembers].some((member) => member.nodeId === nodeId);
}

/** Whoever lives in another configuration must greet again. */
export function checkGeneration(control: ControlState, generation: number): void {
  const own = control.membership.generation;
  if (generation !== own) {
    throw new StorageError('precondition', `message of configuration ${generation}, but this safekeeper is in ${own}`);
  }
}

export function sameMembership(a: Membership, b: Membership): boolean {
  const key = (m: Membership): string =>
    [m.members, m.newMembers].map((list) => list.map((x) => `${x.nodeId}=${x.grpcAddr}`).join(' ')).join('|');
  return a.generation === b.generation && key(a) === key(b);
}
