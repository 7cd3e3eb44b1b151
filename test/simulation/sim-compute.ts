/** A simulated compute: the production walproposer with a Postgres that writes toy WAL once the walproposer has recovered. */
import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { WalProposer } from '../../services/compute-ctl/core/walproposer.js';
import type { Effect, Input } from '../../services/compute-ctl/core/walproposer.js';
import { memberOf } from './sim-controller.js';
import { lastRecordEnd, LOG_BYTES_MAX, ORIGIN, RECORD_BYTES_MAX, SEG_SIZE } from './toy-wal.js';
import { TTID } from './ttid.js';
import type { World } from './world.js';

const NO_BYTES = new Uint8Array(0);

export class SimCompute {
  /** From 1 on; also the mark of its WAL. */
  readonly id: number;
  readonly proposer: WalProposer;
  /** The safekeepers it can reach at present: rivals that see different majorities are what consensus is for. */
  reach: ReadonlySet<number>;
  /** WAL of its term by LSN: what it inherited (put there by the checker, for itself), and what it wrote. */
  bytes: Uint8Array = NO_BYTES;
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
      addrs: world.safekeepers.map(({ index }) => memberOf(index).grpcAddr),
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
    world.fault?.makeProposer?.(this.proposer);
  }

  get isActive(): boolean {
    return !this.dead && !this.fenced;
  }

  take(input: Input): void {
    if (this.dead) return;
    this.inputs.push(input);
    if (this.stepping) return;
    this.stepping = true;
    for (let next = this.inputs.shift(); next !== undefined; next = this.inputs.shift()) this.step(next);
    this.stepping = false;
  }

  /** Writes records, as a Postgres would, and sometimes shows only a part of the last one. */
  write(): void {
    if (!this.recovered || !this.isActive) return;
    const { random } = this.world;
    let end = lastRecordEnd(this.bytes, this.proposer.startLsn, this.endLsn);
    for (let count = 1 + random(3); count > 0 && end + RECORD_BYTES_MAX < LOG_BYTES_MAX; count--) {
      const length = 8 * (1 + random(8));
      if (this.bytes[end] === 0) this.bytes.fill(this.id, end, end + length).set([length], end);
      end += this.bytes[end] ?? 0;
    }
    this.endLsn = Math.max(this.endLsn, end - 8 * random(2));
    this.take({ kind: 'wal-available', endLsn: lsn(this.endLsn) });
  }

  /** Answers one outstanding read, from its own WAL or from a safekeeper that has it. */
  answerRead(): void {
    const read = this.reads.shift();
    if (read === undefined || this.dead) return;
    const { peer, epoch, fromLsn, endLsn } = read;
    const give = (bytes: Uint8Array): void =>
      this.take({ kind: 'wal-read', peer, epoch, beginLsn: fromLsn, bytes: bytes.slice() });
    if (this.recovered && fromLsn >= this.proposer.startLsn) return give(this.bytes.subarray(fromLsn, endLsn));
    const donor = this.proposer.donorsAt(fromLsn).find(({ index }) => index !== peer);
    const source = donor === undefined ? undefined : this.world.safekeepers[donor.index];
    const state = source?.state;
    if (donor === undefined || source === undefined || !state || state.control.term !== this.proposer.term) {
      this.world.network.closeAtCompute(this.world.network.of(this, peer));
      return;
    }
    let end = Math.min(endLsn, donor.flushLsn, state.flushLsn, fromLsn + 8 * (1 + this.world.random(16)));
    // Where its disk ends the safekeeper reads the object store.
    const { removedBelow } = source.disk;
    if (fromLsn < removedBelow) {
      const { store } = this.world;
      end = Math.min(end, removedBelow);
      assert.ok(end <= store.end, `WAL of ${fromLsn} is neither on safekeeper ${source.index} nor in the object store`);
      return give(store.bytes.subarray(fromLsn, end));
    }
    if (end > fromLsn) give(source.disk.bytes.subarray(fromLsn, end));
    else this.world.network.closeAtCompute(this.world.network.of(this, peer));
  }

  private step(input: Input): void {
    let given: Input = input;
    const tamper = this.world.fault?.toProposer;
    if (input.kind === 'message' && tamper !== undefined) {
      const message = tamper(this.proposer, input.message);
      if (message === null) return;
      given = { ...input, message };
    }
    // The real shell gives no WAL to a proposer that stopped meanwhile.
    if (given.kind === 'wal-available' && this.proposer.phase !== 'leading') return;
    for (const effect of this.proposer.step(given, this.world.nowMs)) this.perform(effect);
  }

  private perform(effect: Effect): void {
    switch (effect.kind) {
      case 'send':
        this.world.network.send(this, effect.peer, effect.message);
        break;
      case 'read-wal':
        this.reads.push(effect);
        break;
      case 'reset':
        this.world.network.closeAtCompute(this.world.network.of(this, effect.peer));
        break;
      case 'drop':
        this.world.network.closeAtCompute(this.world.network.of(this, effect.peer));
        break;
      case 'connect':
        // The weather connects all that may be connected to.
        break;
      case 'need-start-lsn':
        this.take({ kind: 'start-lsn', lsn: ORIGIN });
        break;
      case 'elected':
        this.world.checker.elected(this, effect.term);
        break;
      case 'recovered':
        assert.ok(!this.recovered, 'recovered twice');
        this.recovered = true;
        this.endLsn = effect.lsn;
        break;
      case 'committed':
        this.world.checker.committed(this, effect.lsn);
        break;
      case 'fenced':
        this.fenced = true;
        this.world.counts.fenced += 1;
        break;
      case 'feedback':
      case 'standby-feedback':
      case 'note':
        break;
    }
  }
}
