/**
 * For tests: acceptors with forgetful disks, and proposers, in one process, over connections that deliver in order but break at any
 * time. Every choice is taken from a list of numbers, so a failing run can be shrunk and replayed. Checks as it goes:
 *   a term has one leader; what was committed once is never contradicted; no acceptor lacks, within its commit position, a byte of
 *   what is committed, or has another one there; after a crash an acceptor still has all that it acknowledged in its term.
 */
import { strict as assert } from 'node:assert';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn, lsnMin, type Lsn } from '#shared/core/lsn.js';
import {
  compareLogs,
  cutTermHistory,
  lastLogTerm,
  streamingStart,
  type TermHistory,
} from '#shared/consensus/term-history.js';
import { acceptorLastLogTerm, createAcceptor, step } from '../core/acceptor.js';
import type {
  AcceptorEffect,
  AcceptorInput,
  AcceptorReply,
  AcceptorState,
  ControlState,
  ProposerInput,
} from '../core/acceptor-types.js';
import { newControlState } from '../core/control-state.js';
import { NO_MEMBERSHIP } from '../core/membership.js';
import { ToyDecoder, toyEnd, toyRecord, TOY_BYTES_MIN } from './toy-wal.js';

export const START = lsn(1000);
const SEG_SIZE = 1 << 20;
const LOG_BYTES_MAX = 4000;
const APPEND_BYTES = 80;
const PROPOSERS_AT_ONCE = 3;

/** The numbers that decide everything; zeros when they run out. */
export class Choices {
  private readonly numbers: readonly number[];
  private at = 0;

  constructor(numbers: readonly number[]) {
    this.numbers = numbers;
  }

  get isOver(): boolean {
    return this.at >= this.numbers.length;
  }

  below(limit: number): number {
    return (this.numbers[this.at++] ?? 0) % limit;
  }
}

/** An acceptor and its disk. Bytes are kept from START on. */
export class SimAcceptor {
  readonly id: number;
  state: AcceptorState;
  /** What reads see now. */
  readonly log = new Uint8Array(LOG_BYTES_MAX);
  private control: ControlState;
  private durable = new Uint8Array(LOG_BYTES_MAX);
  /** Crash before performing the effect with this number; -1 = never. */
  crashAt = -1;

  constructor(id: number, control: ControlState) {
    this.id = id;
    this.control = control;
    this.state = this.boot();
  }

  /** Performs a step. Returns its replies; null: it crashed on the way. Throws a refusal. */
  step(input: AcceptorInput, choices: Choices): { connection: number; reply: AcceptorReply }[] | null {
    const effects = [...step(this.state, input)];
    if (input.kind !== 'append' || choices.below(3) === 0) effects.push(...step(this.state, { kind: 'flush' }));
    const replies: { connection: number; reply: AcceptorReply }[] = [];
    for (const [index, effect] of effects.entries()) {
      if (index === this.crashAt) {
        this.crash(choices);
        return null;
      }
      if (effect.kind === 'reply') replies.push(effect);
      else this.perform(effect);
    }
    return replies;
  }

  /** Loses what was not synced, but for a part that happened to reach the disk. */
  crash(choices: Choices): void {
    this.crashAt = -1;
    const from = choices.below(LOG_BYTES_MAX);
    const to = from + choices.below(200);
    for (let at = from; at < Math.min(to, LOG_BYTES_MAX); at++) this.durable[at] = this.log[at] as number;
    this.log.set(this.durable);
    const acknowledged = this.state.control.term === this.control.term ? this.acknowledgedLsn : 0;
    this.state = this.boot();
    assert.ok(this.state.flushLsn >= acknowledged, `acceptor ${this.id} lost acknowledged WAL`);
  }

  /** Highest flush position told to the leader of the present term. */
  acknowledgedLsn = 0;
  /** Truncations that dropped something. */
  cuts = 0;

  bytes(to: Lsn): Uint8Array {
    return this.log.slice(0, to - START);
  }

  private boot(): AcceptorState {
    const { control } = this;
    const started = control.timelineStartLsn !== 0;
    const flushLsn = started ? toyEnd(this.log.subarray(control.commitLsn - START), control.commitLsn) : lsn(0);
    // What was found is made durable before anybody is told of it.
    this.durable.set(this.log);
    return createAcceptor({ nodeId: this.id, control, flushLsn, makeDecoder: (at) => new ToyDecoder(at) });
  }

  private perform(effect: Exclude<AcceptorEffect, { kind: 'reply' }>): void {
    switch (effect.kind) {
      case 'persist':
        this.control = effect.control;
        return;
      case 'write-wal':
        this.log.set(effect.bytes, effect.at - START);
        return;
      case 'flush-wal':
        this.durable.set(this.log);
        return;
      case 'remove-wal':
        // Nobody asks for it here; test/simulation does.
        return;
      case 'start-wal':
      case 'truncate-wal': {
        if (effect.kind === 'truncate-wal' && this.log[effect.to - START] !== 0) this.cuts += 1;
        const at = effect.kind === 'start-wal' ? START : effect.to;
        this.log.fill(0, at - START);
        this.durable.set(this.log);
        this.acknowledgedLsn = Math.min(this.acknowledgedLsn, at);
      }
    }
  }
}

interface Wire {
  readonly connection: number;
  readonly acceptor: SimAcceptor;
  readonly toAcceptor: ProposerInput[];
  readonly toProposer: AcceptorReply[];
  phase: 'greeting' | 'greeted' | 'voting' | 'voted' | 'streaming';
  /** Durable there, as it told in our term. */
  ackLsn: Lsn;
  nextLsn: Lsn;
  history: TermHistory;
  flushLsn: Lsn;
}

/** A proposer as simple as can be: no timeouts, any connection may be opened anew. */
class SimProposer {
  readonly wires: (Wire | null)[];
  term = 0;
  highestSeen = 0;
  phase: 'greeting' | 'campaign' | 'leading' | 'dead' = 'greeting';
  history: TermHistory = [];
  startLsn = lsn(0);
  log: Uint8Array = new Uint8Array(0);
  commitLsn = lsn(0);
  readonly votes = new Map<number, { history: TermHistory; flushLsn: Lsn; bytes: Uint8Array }>();

  constructor(count: number) {
    this.wires = Array.from({ length: count }, () => null);
  }

  get endLsn(): Lsn {
    return lsn(START + this.log.length);
  }
}

export class Simulation {
  readonly acceptors: SimAcceptor[];
  committed: Uint8Array = new Uint8Array(0);
  elections = 0;
  crashes = 0;
  private readonly choices: Choices;
  private proposers: SimProposer[] = [];
  private readonly leaders = new Map<number, SimProposer>();
  private lastConnection = 0;

  constructor(numbers: readonly number[], options: { acceptors: number; created: boolean }) {
    this.choices = new Choices(numbers);
    const control = newControlState({
      ttid: { tenantId: parseTenantId('1'.repeat(32)), timelineId: parseTimelineId('2'.repeat(32)) },
      startLsn: options.created ? START : lsn(0),
      pgVersion: 150018,
      systemId: 1n,
      segSize: SEG_SIZE,
      membership: NO_MEMBERSHIP,
      nowMs: 0,
    });
    this.acceptors = Array.from({ length: options.acceptors }, (_, index) => new SimAcceptor(index, control));
  }

  run(): void {
    while (!this.choices.isOver) {
      this.turn();
      this.check();
    }
  }

  private get quorum(): number {
    return Math.floor(this.acceptors.length / 2) + 1;
  }

  private turn(): void {
    const what = this.choices.below(100);
    if (this.proposers.length === 0 || what < 3) {
      this.proposers = [...this.proposers.slice(1 - PROPOSERS_AT_ONCE), this.newProposer()];
    }
    const proposer = this.proposers[this.choices.below(this.proposers.length)] as SimProposer;
    const index = this.choices.below(this.acceptors.length);
    const acceptor = this.acceptors[index] as SimAcceptor;
    if (what === 3) this.crash(acceptor);
    else if (what === 4) acceptor.crashAt = this.choices.below(4);
    else if (what < 8) this.disconnect(proposer, index);
    else if (what < 12) this.gossip(acceptor);
    else if (what < 25) this.produce(proposer);
    else this.exchange(proposer, index);
  }

  /** Some messages in each direction; rarely all, so that the rest comes late. */
  private exchange(proposer: SimProposer, index: number): void {
    if (!proposer.wires[index]) this.connect(proposer, index);
    for (let count = this.choices.below(5); count > 0 && proposer.wires[index]; count--) {
      this.deliverToAcceptor(proposer, index);
    }
    for (let count = this.choices.below(5); count > 0 && proposer.wires[index]; count--) {
      this.deliverToProposer(proposer, index);
    }
  }

  private newProposer(): SimProposer {
    return new SimProposer(this.acceptors.length);
  }

  private crash(acceptor: SimAcceptor): void {
    this.crashes += 1;
    acceptor.crash(this.choices);
    for (const proposer of this.proposers) this.disconnect(proposer, acceptor.id);
  }

  private disconnect(proposer: SimProposer, index: number): void {
    const wire = proposer.wires[index];
    proposer.wires[index] = null;
    if (wire) this.stepAcceptor(wire.acceptor, { kind: 'disconnect', connection: wire.connection });
  }

  private connect(proposer: SimProposer, index: number): void {
    if (proposer.phase === 'dead') return;
    const acceptor = this.acceptors[index] as SimAcceptor;
    const connection = ++this.lastConnection;
    const { ttid } = acceptor.state.control;
    const greeting: ProposerInput = {
      kind: 'greeting',
      connection,
      ttid,
      membership: NO_MEMBERSHIP,
      pgVersion: 150018,
      systemId: 1n,
      segSize: SEG_SIZE,
    };
    proposer.wires[index] = {
      connection,
      acceptor,
      toAcceptor: [greeting],
      toProposer: [],
      phase: 'greeting',
      ackLsn: lsn(0),
      nextLsn: lsn(0),
      history: [],
      flushLsn: lsn(0),
    };
  }

  private deliverToAcceptor(proposer: SimProposer, index: number): void {
    const wire = proposer.wires[index] as Wire;
    const input = wire.toAcceptor.shift();
    if (input === undefined) {
      this.feedWire(proposer, wire);
      return;
    }
    try {
      this.stepAcceptor(wire.acceptor, input);
    } catch (error) {
      if (!(error instanceof StorageError) || error.kind === 'corrupt') throw error;
      this.disconnect(proposer, index);
    }
  }

  private stepAcceptor(acceptor: SimAcceptor, input: AcceptorInput): void {
    const replies = acceptor.step(input, this.choices);
    if (replies === null) {
      this.crashes += 1;
      for (const proposer of this.proposers) proposer.wires[acceptor.id] = null;
      return;
    }
    for (const { connection, reply } of replies) {
      for (const proposer of this.proposers) {
        const wire = proposer.wires.find((one) => one?.connection === connection);
        if (!wire) continue;
        wire.toProposer.push(reply);
        if (reply.kind === 'append' && reply.term === proposer.term) acceptor.acknowledgedLsn = reply.flushLsn;
        if (reply.kind === 'vote') this.remember(proposer, acceptor, reply);
      }
    }
  }

  /** The content of a voter's log as it was when it voted, which is what the leader would fetch from it. */
  private remember(proposer: SimProposer, acceptor: SimAcceptor, vote: Extract<AcceptorReply, { kind: 'vote' }>): void {
    const { history, flushLsn } = vote;
    const bytes = flushLsn === 0 ? new Uint8Array(0) : acceptor.bytes(flushLsn);
    if (proposer.phase === 'campaign' && vote.voteGiven) proposer.votes.set(acceptor.id, { history, flushLsn, bytes });
  }

  private deliverToProposer(proposer: SimProposer, index: number): void {
    const wire = proposer.wires[index] as Wire;
    const reply = wire.toProposer.shift();
    if (reply === undefined) {
      this.feedWire(proposer, wire);
      return;
    }
    if (proposer.phase !== 'greeting' && reply.term > proposer.term) {
      proposer.phase = 'dead';
      return;
    }
    if (reply.kind === 'greeting') this.greeted(proposer, wire, reply.term);
    if (reply.kind === 'vote') this.voted(proposer, wire, reply);
    if (reply.kind === 'append' && proposer.phase === 'leading') {
      wire.ackLsn = reply.flushLsn;
      this.commit(proposer);
    }
  }

  private greeted(proposer: SimProposer, wire: Wire, term: number): void {
    wire.phase = 'greeted';
    proposer.highestSeen = Math.max(proposer.highestSeen, term);
    const greeted = proposer.wires.filter((one) => one?.phase === 'greeted');
    if (proposer.phase === 'greeting') {
      if (greeted.length < this.quorum) return;
      proposer.term = proposer.highestSeen + 1;
      proposer.phase = 'campaign';
    }
    for (const one of greeted) {
      if (!one) continue;
      one.phase = 'voting';
      one.toAcceptor.push({ kind: 'vote', connection: one.connection, generation: 0, term: proposer.term });
    }
  }

  private voted(proposer: SimProposer, wire: Wire, vote: Extract<AcceptorReply, { kind: 'vote' }>): void {
    wire.phase = 'voted';
    wire.history = vote.history;
    wire.flushLsn = vote.flushLsn;
    if (proposer.phase === 'campaign' && proposer.votes.size >= this.quorum) this.win(proposer);
    if (proposer.phase !== 'leading') return;
    for (const one of proposer.wires) if (one?.phase === 'voted') this.announce(proposer, one);
  }

  private win(proposer: SimProposer): void {
    assert.equal(this.leaders.get(proposer.term), undefined, `term ${proposer.term} has two leaders`);
    this.leaders.set(proposer.term, proposer);
    this.elections += 1;
    const logs = [...proposer.votes.values()].map((vote) => ({
      ...vote,
      lastLogTerm: lastLogTerm(vote.history, vote.flushLsn),
    }));
    const donor = logs.reduce((best, log) => (compareLogs(log, best) > 0 ? log : best));
    const fresh = donor.flushLsn === 0;
    proposer.startLsn = fresh ? START : donor.flushLsn;
    proposer.log = donor.bytes;
    const inherited = cutTermHistory(donor.history, donor.flushLsn);
    proposer.history = [...inherited, { term: proposer.term, lsn: proposer.startLsn }];
    proposer.phase = 'leading';
  }

  private announce(proposer: SimProposer, wire: Wire): void {
    wire.phase = 'streaming';
    const start = streamingStart(proposer.history, wire.history, wire.flushLsn);
    wire.nextLsn = start;
    const { connection } = wire;
    const { term, history } = proposer;
    wire.toAcceptor.push({ kind: 'elected', connection, generation: 0, term, startStreamingAt: start, history });
    this.feedWire(proposer, wire);
  }

  private produce(proposer: SimProposer): void {
    if (proposer.phase !== 'leading') return;
    const record = toyRecord(TOY_BYTES_MIN + this.choices.below(60), this.choices.below(250) + 1);
    if (proposer.log.length + record.length > LOG_BYTES_MAX) return;
    proposer.log = Uint8Array.from([...proposer.log, ...record]);
  }

  private feedWire(proposer: SimProposer, wire: Wire): void {
    if (wire.phase !== 'streaming') return;
    const beginLsn = wire.nextLsn;
    const bytes = proposer.log.slice(beginLsn - START, beginLsn - START + 1 + this.choices.below(APPEND_BYTES));
    wire.nextLsn = lsn(beginLsn + bytes.length);
    const { term, commitLsn } = proposer;
    const common = { kind: 'append', connection: wire.connection, generation: 0, term } as const;
    wire.toAcceptor.push({ ...common, beginLsn, commitLsn, truncateLsn: lsn(0), bytes });
  }

  private commit(proposer: SimProposer): void {
    const acks = proposer.wires.map((wire) => wire?.ackLsn ?? 0).map((ack) => (ack < proposer.startLsn ? 0 : ack));
    const sorted = acks.sort((a, b) => a - b);
    const candidate = sorted[sorted.length - this.quorum] ?? 0;
    if (candidate <= proposer.commitLsn) return;
    proposer.commitLsn = lsn(candidate);
    const now = proposer.log.slice(0, candidate - START);
    const both = Math.min(now.length, this.committed.length);
    assert.ok(equal(now.subarray(0, both), this.committed.subarray(0, both)), 'committed WAL was contradicted');
    if (now.length > this.committed.length) this.committed = now;
  }

  private gossip(to: SimAcceptor): void {
    const from = this.acceptors[this.choices.below(this.acceptors.length)] as SimAcceptor;
    const { control } = from.state;
    this.stepAcceptor(to, {
      kind: 'peer-info',
      lastLogTerm: acceptorLastLogTerm(from.state),
      commitLsn: control.commitLsn,
      backupLsn: control.backupLsn,
      peerHorizonLsn: control.peerHorizonLsn,
      remoteConsistentLsn: control.remoteConsistentLsn,
    });
  }

  private check(): void {
    for (const acceptor of this.acceptors) {
      const { commitLsn } = acceptor.state.control;
      if (commitLsn === 0) continue;
      const own = acceptor.bytes(lsnMin(commitLsn, lsn(START + LOG_BYTES_MAX)));
      assert.ok(own.length <= this.committed.length, `acceptor ${acceptor.id} calls committed what is not`);
      const known = this.committed.subarray(0, own.length);
      assert.ok(equal(own, known), `acceptor ${acceptor.id} has other committed WAL`);
    }
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
