/** Which safekeepers a proposer is connected to follows from the configuration: who joins is connected to, who left is let go. */
import { newPeer } from './peer.js';
import type { Peer } from './peer.js';
import type { Member, Membership } from './messages.js';

export interface PeerChanges {
  /** Members that were not connected to so far; new ones were added behind the others. */
  readonly joined: readonly Peer[];
  readonly left: readonly Peer[];
}

/** Changes `peers` so that those which are not gone are the members. A configuration that names nobody changes nothing. */
export function followMembership(peers: Peer[], membership: Membership): PeerChanges {
  const joined: Peer[] = [];
  if (membership.members.length === 0) return { joined, left: [] };
  const members = new Set<Peer>();
  for (const member of [...membership.members, ...membership.newMembers]) {
    let peer = peers.find((one) => isPeerOf(member, one));
    if (peer === undefined) {
      peer = newPeer(peers.length, member.grpcAddr);
      peer.gone = true;
      peers.push(peer);
    }
    peer.nodeId ??= member.nodeId;
    members.add(peer);
    if (!peer.gone) continue;
    peer.gone = false;
    peer.tried = false;
    joined.push(peer);
  }
  const left = peers.filter((peer) => !peer.gone && !members.has(peer));
  for (const peer of left) peer.gone = true;
  return { joined, left };
}

/** By node id; one that never greeted, by its address. */
function isPeerOf(member: Member, peer: Peer): boolean {
  return peer.nodeId === member.nodeId || (peer.nodeId === null && peer.addr !== '' && peer.addr === member.grpcAddr);
}
