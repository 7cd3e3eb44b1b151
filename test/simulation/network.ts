/**
 * The network of a simulated world. One connection keeps order; different ones do not. A connection breaks at any time with everything in
 * flight, or is ended by one side while the other goes on to receive what is on the way: so an old connection still delivers while its
 * successor is used, and data sent again by the successor arrives twice. A partition stalls connections without breaking them.
 */
import type { TermHistory } from '#shared/consensus/term-history.js';
import type { AcceptorMessage, ProposerMessage } from '../../services/compute-ctl/core/messages.js';
import type { AcceptorInput, AcceptorReply } from '../../services/safekeeper/core/acceptor-types.js';
import { pick } from './random.js';
import type { SimCompute } from './sim-compute.js';
import type { SimSafekeeper } from './sim-safekeeper.js';
import type { World } from './world.js';

export interface Connection {
  readonly id: number;
  readonly compute: SimCompute;
  readonly safekeeper: SimSafekeeper;
  readonly toSafekeeper: ProposerMessage[];
  readonly toCompute: AcceptorMessage[];
  openAtCompute: boolean;
  openAtSafekeeper: boolean;
  /** What is on the way when one side ends it may take long: its successor can be in full use by then. */
  heldUntilMs: number;
}

const HELD_MS_MAX = 300;

export class Network {
  private readonly world: World;
  private connections: Connection[] = [];
  private lastId = 0;

  constructor(world: World) {
    this.world = world;
  }

  /** The connection that the compute holds for the present one. */
  of(compute: SimCompute, peer: number): Connection | undefined {
    return this.connections.find(
      (one) => one.openAtCompute && one.compute === compute && one.safekeeper.index === peer,
    );
  }

  /** Connects when it is possible and not done yet. */
  connect(compute: SimCompute, peer: number): void {
    const safekeeper = this.world.safekeepers[peer] as SimSafekeeper;
    // The real shell does not connect to one that left the membership.
    if (compute.proposer.peers[peer]?.gone === true) return;
    if (!compute.isActive || this.of(compute, peer) !== undefined) return;
    if (!safekeeper.isUp || !compute.reach.has(peer)) return compute.take({ kind: 'disconnected', peer });
    const id = ++this.lastId;
    const ends = { openAtCompute: true, openAtSafekeeper: true, heldUntilMs: 0 };
    this.connections.push({ id, compute, safekeeper, toSafekeeper: [], toCompute: [], ...ends });
    this.world.note('connect', compute.id, peer);
    compute.take({ kind: 'connected', peer });
  }

  send(compute: SimCompute, peer: number, message: ProposerMessage): void {
    const connection = this.of(compute, peer);
    if (connection?.openAtSafekeeper === true) connection.toSafekeeper.push(message);
  }

  reply(id: number, reply: AcceptorReply): void {
    const connection = this.connections.find((one) => one.id === id);
    if (connection?.openAtCompute === true) connection.toCompute.push(fromAcceptor(reply));
  }

  /** The compute's side ends; the safekeeper may still receive what was sent. */
  closeAtCompute(connection: Connection | undefined): void {
    if (connection === undefined || !connection.openAtCompute) return;
    this.world.note('closed at compute', connection.compute.id, connection.safekeeper.index);
    connection.openAtCompute = false;
    connection.toCompute.length = 0;
    connection.compute.take({ kind: 'disconnected', peer: connection.safekeeper.index });
    if (this.world.random(4) === 0) this.closeAtSafekeeper(connection);
    else this.hold(connection);
    this.forget();
  }

  /** The safekeeper's side ends; the compute may still receive what was answered. */
  closeAtSafekeeper(connection: Connection): void {
    if (!connection.openAtSafekeeper) return;
    this.world.note('closed at safekeeper', connection.compute.id, connection.safekeeper.index);
    connection.openAtSafekeeper = false;
    connection.toSafekeeper.length = 0;
    connection.safekeeper.take({ kind: 'disconnect', connection: connection.id }, null);
    if (this.world.random(4) === 0) this.closeAtCompute(connection);
    else this.hold(connection);
    this.forget();
  }

  /** All its connections end on its side, and it is not there to be told. */
  lostSafekeeper(safekeeper: SimSafekeeper): void {
    for (const connection of this.connections.filter((one) => one.safekeeper === safekeeper)) {
      this.closeAtSafekeeper(connection);
    }
  }

  lostCompute(compute: SimCompute): void {
    for (const connection of this.connections.filter((one) => one.compute === compute)) this.closeAtCompute(connection);
  }

  breakOne(): void {
    const busy = this.connections.filter((one) => one.toSafekeeper.length > 0);
    const victim = pick(this.world.random, busy.length > 0 && this.world.random(4) > 0 ? busy : this.connections);
    if (victim === undefined) return;
    if (this.world.random(4) === 0) this.closeAtCompute(victim);
    else this.closeAtSafekeeper(victim);
  }

  /** Delivers one message of some connection, or the news that the other side ended it. False when nothing is in flight. */
  deliver(): boolean {
    const busy = this.connections.filter((one) => (hasForth(one) || hasBack(one)) && this.passes(one));
    const connection = pick(this.world.random, busy);
    if (connection === undefined) return false;
    const forth = hasForth(connection) && (!hasBack(connection) || this.world.random(2) === 0);
    if (forth) this.deliverForth(connection);
    else this.deliverBack(connection);
    return true;
  }

  private deliverForth(connection: Connection): void {
    const { safekeeper, compute } = connection;
    const message = connection.toSafekeeper.shift();
    if (message === undefined) return this.closeAtSafekeeper(connection);
    this.world.note(message.kind, compute.id, safekeeper.index, message.kind === 'append' ? message.beginLsn : 0);
    safekeeper.take(toAcceptor(message, connection.id), connection);
    if (this.world.random(2) === 0) safekeeper.take({ kind: 'flush' }, null);
  }

  private deliverBack(connection: Connection): void {
    const { safekeeper, compute } = connection;
    const message = connection.toCompute.shift();
    if (message === undefined) return this.closeAtCompute(connection);
    this.world.note(`${message.kind} answer`, compute.id, safekeeper.index, message.term);
    compute.take({ kind: 'message', peer: safekeeper.index, message });
  }

  private passes({ compute, safekeeper, heldUntilMs }: Connection): boolean {
    return heldUntilMs <= this.world.nowMs && (compute.dead || compute.reach.has(safekeeper.index));
  }

  private hold(connection: Connection): void {
    if (this.world.random(2) === 0) connection.heldUntilMs = this.world.nowMs + this.world.random(HELD_MS_MAX);
  }

  private forget(): void {
    this.connections = this.connections.filter((one) => one.openAtCompute || one.openAtSafekeeper);
  }
}

function hasForth(one: Connection): boolean {
  return one.openAtSafekeeper && (one.toSafekeeper.length > 0 || !one.openAtCompute);
}

function hasBack(one: Connection): boolean {
  return one.openAtCompute && (one.toCompute.length > 0 || !one.openAtSafekeeper);
}

interface MembershipOf<Id> {
  readonly generation: number;
  readonly members: readonly { readonly nodeId: Id; readonly grpcAddr: string }[];
  readonly newMembers: readonly { readonly nodeId: Id; readonly grpcAddr: string }[];
}

function convertMembership<A, B>(membership: MembershipOf<A>, id: (nodeId: A) => B): MembershipOf<B> {
  const convert = (list: MembershipOf<A>['members']) => list.map((one) => ({ ...one, nodeId: id(one.nodeId) }));
  const { generation, members, newMembers } = membership;
  return { generation, members: convert(members), newMembers: convert(newMembers) };
}

function toAcceptor(message: ProposerMessage, connection: number): AcceptorInput {
  switch (message.kind) {
    case 'greeting':
      return { ...message, connection, membership: convertMembership(message.membership, Number) };
    case 'vote':
      return { ...message, connection };
    case 'elected':
      return { ...message, connection, history: message.termHistory };
    case 'append':
      return { ...message, connection, bytes: message.walData.slice() };
  }
}

function fromAcceptor(reply: AcceptorReply): AcceptorMessage {
  switch (reply.kind) {
    case 'greeting':
      return { ...reply, nodeId: BigInt(reply.nodeId), membership: convertMembership(reply.membership, BigInt) };
    case 'vote': {
      const termHistory: TermHistory = reply.history;
      return { ...reply, termHistory };
    }
    case 'append':
      return { ...reply, pageserverFeedback: null, standbyFeedback: null };
  }
}
