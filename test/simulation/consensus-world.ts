/**
 * A world in one process for the two consensus machines as they are: the safekeepers' acceptor and the computes' walproposer. Connections
 * keep order and may break at any time with everything in flight; safekeepers crash between any two effects and keep, of what was not
 * flushed, any prefix; computes are killed and new ones come. The world decides nothing by itself: a seeded source of numbers does.
 *
 * WAL here is a string of records, whole multiples of 8 bytes: first byte the length, the rest the term of the compute that wrote it.
 *
 * Checked all the time:
 * - a term is won once;
 * - what a compute reports as committed is durable on a majority, agrees with everything reported before, and never shrinks;
 * - a term starts behind everything that earlier terms committed, whenever the news of either arrives.
 */
import { strict as assert } from 'node:assert';
import type { TermHistory } from '#shared/consensus/term-history.js';
import { parseTtid } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { WalProposer } from '../../services/compute-ctl/core/walproposer.js';
import type { Effect, Input } from '../../services/compute-ctl/core/walproposer.js';
import type { AcceptorMessage, ProposerMessage } from '../../services/compute-ctl/core/messages.js';
import { createAcceptor, step } from '../../services/safekeeper/core/acceptor.js';
import type {
  AcceptorEffect,
  AcceptorInput,
  AcceptorReply,
  AcceptorState,
  ControlState,
} from '../../services/safekeeper/core/acceptor-types.js';

const TTID = parseTtid({ tenantId: '1'.repeat(32), timelineId: '2'.repeat(32) });
const SEG_SIZE = 1 << 20;
const LOG_BYTES_MAX = 1 << 16;
/** Where the timeline's WAL begins. */
export const ORIGIN = lsn(4096);

/** Numbers from a seed (mulberry32): the same seed makes the same world. */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000) * below);
  };
}

/** End of the last whole record of bytes[from, to). */
function lastRecordEnd(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  for (let length = bytes[at] ?? 0; length > 0 && at + length <= to; length = bytes[at] ?? 0) at += length;
  return at;
}

class Decoder {
  recordEndLsn: Lsn;
  private pending: number[] = [];

  constructor(at: Lsn) {
    this.recordEndLsn = at;
  }

  feed(bytes: Uint8Array): void {
    this.pending.push(...bytes);
  }

  next(): boolean {
    const length = this.pending[0];
    if (length === undefined || this.pending.length < length) return false;
    assert.ok(length >= 8 && length % 8 === 0, 'damaged WAL reached a safekeeper');
    this.pending.splice(0, length);
    this.recordEndLsn = lsn(this.recordEndLsn + length);
    return true;
  }
}

class Crash extends Error {}

export class Safekeeper {
  readonly index: number;
  /** Null while it is down. */
  state: AcceptorState | null = null;
  /** By LSN. */
  readonly bytes = new Uint8Array(LOG_BYTES_MAX);
  durableEnd = 0;
  private writtenEnd = 0;
  private control: ControlState;
  private readonly world: World;

  constructor(world: World, index: number) {
    this.world = world;
    this.index = index;
    this.control = {
      ttid: TTID,
      membership: { generation: 0, members: [], newMembers: [] },
      term: 0,
      history: [],
      pgVersion: 0,
      systemId: 0n,
      segSize: SEG_SIZE,
      createdAtMs: 0,
      timelineStartLsn: lsn(0),
      localStartLsn: lsn(0),
      commitLsn: lsn(0),
      backupLsn: lsn(0),
      peerHorizonLsn: lsn(0),
      remoteConsistentLsn: lsn(0),
    };
    this.restart();
  }

  restart(): void {
    const start = this.control.timelineStartLsn;
    const end = start === 0 ? 0 : lastRecordEnd(this.bytes, start, this.durableEnd);
    const options = { nodeId: this.index + 1, control: this.control, flushLsn: lsn(end) };
    this.state = createAcceptor({ ...options, makeDecoder: (at) => new Decoder(at) });
  }

  /** Keeps some prefix of what was written but not flushed. */
  crash(): void {
    this.durableEnd += this.world.random(this.writtenEnd - this.durableEnd + 1);
    this.writtenEnd = this.durableEnd;
    this.bytes.fill(0, this.durableEnd);
    this.state = null;
    this.world.breakConnections((connection) => connection.safekeeper === this);
  }

  /** Takes one input; a broken rule ends the connection, as the real shell does. */
  take(input: AcceptorInput, connection: Connection | null): void {
    if (this.state === null) return;
    let effects: AcceptorEffect[];
    try {
      effects = step(this.state, input);
    } catch (error) {
      if (connection === null || (error as Error).name !== 'StorageError') throw error;
      this.world.breakConnections((other) => other === connection);
      return;
    }
    try {
      for (const effect of effects) this.perform(effect);
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.crash();
    }
  }

  private perform(effect: AcceptorEffect): void {
    if (this.world.mayCrash && this.world.random(300) === 0) throw new Crash();
    switch (effect.kind) {
      case 'persist':
        this.control = effect.control;
        break;
      case 'start-wal':
      case 'truncate-wal':
        this.durableEnd = effect.kind === 'start-wal' ? effect.at : effect.to;
        this.writtenEnd = this.durableEnd;
        this.bytes.fill(0, this.durableEnd);
        break;
      case 'write-wal':
        assert.equal(effect.at, this.writtenEnd, 'a safekeeper wrote with a gap');
        this.bytes.set(effect.bytes, effect.at);
        this.writtenEnd = effect.at + effect.bytes.length;
        break;
      case 'flush-wal':
        this.durableEnd = this.writtenEnd;
        break;
      case 'reply':
        this.world.reply(effect.connection, effect.reply);
        break;
    }
  }
}

export interface Connection {
  readonly id: number;
  readonly compute: Compute;
  readonly safekeeper: Safekeeper;
  readonly toSafekeeper: ProposerMessage[];
  readonly toCompute: AcceptorMessage[];
}

export class Compute {
  readonly id: number;
  readonly proposer: WalProposer;
  /** The safekeepers it can reach: rivals that see different majorities are what consensus is for. */
  readonly reach: ReadonlySet<number>;
  /** Its own WAL by LSN, from its start position on. */
  readonly bytes = new Uint8Array(LOG_BYTES_MAX);
  recovered = false;
  fenced = false;
  dead = false;
  endLsn = 0;
  committedLsn = 0;
  readonly reads: Extract<Effect, { kind: 'read-wal' }>[] = [];
  private readonly world: World;
  private readonly inputs: Input[] = [];
  private stepping = false;

  constructor(world: World, id: number, reach: ReadonlySet<number>) {
    this.world = world;
    this.id = id;
    this.reach = reach;
    this.proposer = new WalProposer({
      ttid: TTID,
      peerCount: world.safekeepers.length,
      membership: { generation: 0, members: [], newMembers: [] },
      pgVersion: 150000,
      systemId: 7n,
      segSize: SEG_SIZE,
      allowTimelineCreation: true,
      greetingGraceMs: 20,
      peerTimeoutMs: 500,
      heartbeatMs: 100,
      donorTimeoutMs: 300,
      campaignRetryMs: 10 + 7 * id,
    });
  }

  take(input: Input): void {
    if (this.dead) return;
    this.inputs.push(input);
    if (this.stepping) return;
    this.stepping = true;
    for (let next = this.inputs.shift(); next !== undefined; next = this.inputs.shift()) {
      for (const effect of this.proposer.step(next, this.world.nowMs)) this.perform(effect);
    }
    this.stepping = false;
  }

  private perform(effect: Effect): void {
    switch (effect.kind) {
      case 'send':
        this.world.connectionOf(this, effect.peer)?.toSafekeeper.push(effect.message);
        break;
      case 'read-wal':
        this.reads.push(effect);
        break;
      case 'reset':
        this.world.breakConnections((connection) => connection === this.world.connectionOf(this, effect.peer));
        break;
      case 'need-start-lsn':
        this.take({ kind: 'start-lsn', lsn: ORIGIN });
        break;
      case 'elected':
        this.world.onElected(this, effect.term);
        break;
      case 'recovered':
        assert.ok(!this.recovered, 'recovered twice');
        this.recovered = true;
        this.endLsn = effect.lsn;
        break;
      case 'committed':
        this.world.onCommitted(this, effect.lsn);
        break;
      case 'fenced':
        this.fenced = true;
        break;
      case 'feedback':
      case 'note':
        break;
    }
  }

  /** Writes records, as a Postgres would, and perhaps only a part of the last one. */
  write(): void {
    if (!this.recovered || this.fenced || this.dead) return;
    const { random } = this.world;
    let end = lastRecordEnd(this.bytes, this.proposer.startLsn, this.endLsn);
    for (let count = 1 + random(3); count > 0 && end + 64 < LOG_BYTES_MAX; count--) {
      const length = 8 * (1 + random(8));
      if (this.bytes[end] === 0) this.bytes.fill(this.proposer.term, end, end + length).set([length], end);
      end += this.bytes[end] ?? 0;
    }
    this.endLsn = Math.max(this.endLsn, end - 8 * random(2));
    this.take({ kind: 'wal-available', endLsn: lsn(this.endLsn) });
  }

  /** Answers one outstanding read, from its own WAL or from a donor. */
  answerRead(): void {
    const read = this.reads.shift();
    if (read === undefined || this.dead) return;
    const { peer, epoch, fromLsn, endLsn } = read;
    const give = (bytes: Uint8Array): void =>
      this.take({ kind: 'wal-read', peer, epoch, beginLsn: fromLsn, bytes: bytes.slice() });
    const { startLsn } = this.proposer;
    if (this.recovered && fromLsn >= startLsn) return give(this.bytes.subarray(fromLsn, endLsn));
    const donor = this.proposer.donorsAt(fromLsn).find(({ index }) => index !== peer);
    const source = donor === undefined ? undefined : this.world.safekeepers[donor.index];
    const known = source?.state?.control.term === this.proposer.term ? source : undefined;
    if (known === undefined || donor === undefined) {
      this.world.breakConnections((connection) => connection === this.world.connectionOf(this, peer));
      return;
    }
    const end = Math.min(endLsn, donor.flushLsn, known.durableEnd);
    give(known.bytes.subarray(fromLsn, Math.min(end, fromLsn + 8 * (1 + this.world.random(16)))));
  }
}

export class World {
  readonly random: (below: number) => number;
  readonly safekeepers: Safekeeper[];
  readonly computes: Compute[] = [];
  /** Who won which term. */
  readonly wonTerms = new Map<number, { readonly compute: number; readonly startLsn: number }>();
  private readonly commitOfTerm = new Map<number, number>();
  nowMs = 0;
  mayCrash = true;
  commitCount = 0;
  private connections: Connection[] = [];
  private nextConnection = 1;
  /** All WAL that was ever reported as committed. */
  private readonly committed = new Uint8Array(LOG_BYTES_MAX);
  private committedEnd: number = ORIGIN;

  constructor(seed: number, safekeepers: number) {
    this.random = seededRandom(seed);
    this.safekeepers = Array.from({ length: safekeepers }, (_, index) => new Safekeeper(this, index));
  }

  get committedLsn(): number {
    return this.committedEnd;
  }

  startCompute(reachAll = this.random(3) === 0): Compute {
    const all = this.safekeepers.map(({ index }) => index);
    const reach = new Set(all);
    const least = reachAll ? all.length : Math.floor(all.length / 2) + 1;
    while (reach.size > least) reach.delete(this.random(all.length));
    const compute = new Compute(this, this.computes.length + 1, reach);
    this.computes.push(compute);
    return compute;
  }

  kill(compute: Compute): void {
    compute.dead = true;
    this.breakConnections((connection) => connection.compute === compute);
  }

  connectionOf(compute: Compute, peer: number): Connection | undefined {
    return this.connections.find((one) => one.compute === compute && one.safekeeper.index === peer);
  }

  /** Opens the connections that are missing and possible. */
  connect(compute: Compute, peer: number): void {
    const safekeeper = this.safekeepers[peer] as Safekeeper;
    if (compute.dead || compute.fenced || this.connectionOf(compute, peer) !== undefined) return;
    if (safekeeper.state === null || !compute.reach.has(peer)) return compute.take({ kind: 'disconnected', peer });
    const id = this.nextConnection++;
    this.connections.push({ id, compute, safekeeper, toSafekeeper: [], toCompute: [] });
    compute.take({ kind: 'connected', peer });
  }

  breakConnections(which: (connection: Connection) => boolean): void {
    const broken = this.connections.filter(which);
    this.connections = this.connections.filter((connection) => !broken.includes(connection));
    for (const { id, compute, safekeeper } of broken) {
      safekeeper.take({ kind: 'disconnect', connection: id }, null);
      compute.take({ kind: 'disconnected', peer: safekeeper.index });
    }
  }

  breakOne(): void {
    const victim = this.connections[this.random(this.connections.length)];
    this.breakConnections((connection) => connection === victim);
  }

  /** Delivers one message of some connection. False when nothing is in flight. */
  deliver(): boolean {
    const busy = this.connections.filter((one) => one.toSafekeeper.length + one.toCompute.length > 0);
    const connection = busy[this.random(busy.length)];
    if (connection === undefined) return false;
    const forth = connection.toSafekeeper.length > 0 && (connection.toCompute.length === 0 || this.random(2) === 0);
    if (forth) {
      const message = connection.toSafekeeper.shift() as ProposerMessage;
      connection.safekeeper.take(toAcceptor(message, connection.id), connection);
      if (this.random(2) === 0) connection.safekeeper.take({ kind: 'flush' }, null);
    } else {
      const message = connection.toCompute.shift() as AcceptorMessage;
      connection.compute.take({ kind: 'message', peer: connection.safekeeper.index, message });
    }
    return true;
  }

  reply(id: number, reply: AcceptorReply): void {
    this.connections.find((connection) => connection.id === id)?.toCompute.push(fromAcceptor(reply));
  }

  onElected(compute: Compute, term: number): void {
    assert.equal(this.wonTerms.get(term)?.compute ?? compute.id, compute.id, `term ${term} was won twice`);
    this.wonTerms.set(term, { compute: compute.id, startLsn: compute.proposer.startLsn });
    this.checkOrder();
  }

  /** What a term committed, every later one starts behind. (News travel slowly: a later term may have gone on long ago.) */
  private checkOrder(): void {
    for (const [term, commitLsn] of this.commitOfTerm) {
      for (const [later, { startLsn }] of this.wonTerms) {
        const inOrder = later <= term || startLsn >= commitLsn;
        assert.ok(inOrder, `term ${later} starts at ${startLsn}, term ${term} committed ${commitLsn}`);
      }
    }
  }

  onCommitted(compute: Compute, commitLsn: number): void {
    assert.ok(commitLsn > compute.committedLsn, 'a commit position fell');
    compute.committedLsn = commitLsn;
    this.commitCount += 1;
    const { term } = compute.proposer;
    this.commitOfTerm.set(term, commitLsn);
    this.checkOrder();
    const { startLsn } = compute.proposer;
    const copy = this.majorityCopy(commitLsn);
    assert.ok(copy !== null, `commit ${commitLsn} is not durable on a majority`);
    const upTo = Math.min(commitLsn, this.committedEnd);
    assert.deepEqual(copy.subarray(ORIGIN, upTo), this.committed.subarray(ORIGIN, upTo), 'committed WAL changed');
    if (compute.recovered) {
      assert.deepEqual(
        copy.subarray(startLsn),
        compute.bytes.subarray(startLsn, commitLsn),
        'not what the compute wrote',
      );
    }
    if (commitLsn > this.committedEnd) {
      this.committed.set(copy);
      this.committedEnd = commitLsn;
    }
  }

  /** The log up to `end` that more than half have durably; others may hold another one, which never gets committed. */
  private majorityCopy(end: number): Uint8Array | null {
    const copies = this.safekeepers.filter((one) => one.durableEnd >= end).map((one) => one.bytes.slice(0, end));
    const equal = (a: Uint8Array) => copies.filter((b) => Buffer.compare(a, b) === 0).length;
    return copies.find((copy) => equal(copy) * 2 > this.safekeepers.length) ?? null;
  }

  /** Everything works from now on, and one new compute comes: it must get its WAL committed. */
  heal(): Compute {
    this.mayCrash = false;
    for (const compute of this.computes) this.kill(compute);
    for (const safekeeper of this.safekeepers) if (safekeeper.state === null) safekeeper.restart();
    const compute = this.startCompute(true);
    for (let round = 0; round < 400; round++) {
      this.nowMs += 20;
      for (const { index } of this.safekeepers) this.connect(compute, index);
      compute.take({ kind: 'tick' });
      if (round % 7 === 0 && round < 200) compute.write();
      for (let quiet = false; !quiet;) {
        while (compute.reads.length > 0) compute.answerRead();
        quiet = !this.deliver();
        if (quiet) for (const safekeeper of this.safekeepers) safekeeper.take({ kind: 'flush' }, null);
        quiet &&= !this.deliver() && compute.reads.length === 0;
      }
    }
    return compute;
  }
}

function toAcceptor(message: ProposerMessage, connection: number): AcceptorInput {
  switch (message.kind) {
    case 'greeting':
      return { ...message, connection, membership: { generation: 0, members: [], newMembers: [] } };
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
      return { ...reply, nodeId: BigInt(reply.nodeId), membership: { generation: 0, members: [], newMembers: [] } };
    case 'vote': {
      const termHistory: TermHistory = reply.history;
      return { ...reply, termHistory };
    }
    case 'append':
      return { ...reply, pageserverFeedback: null };
  }
}
