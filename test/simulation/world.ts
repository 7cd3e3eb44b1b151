/** One simulated world: its safekeepers, its computes, the network and the broker between them, the clock, and the checker that watches. */
import { newControlState } from '../../services/safekeeper/core/control-state.js';
import { acceptorLastLogTerm } from '../../services/safekeeper/core/acceptor.js';
import type { PeerInfoInput } from '../../services/safekeeper/core/acceptor-types.js';
import { NO_MEMBERSHIP } from '../../services/safekeeper/core/membership.js';
import { INVALID_LSN, lsn } from '#shared/core/lsn.js';
import { Checker } from './checker.js';
import type { Fault } from './fault.js';
import { Network } from './network.js';
import { pick } from './random.js';
import type { Random } from './random.js';
import { SimCompute } from './sim-compute.js';
import { SimController } from './sim-controller.js';
import { SimStore } from './sim-store.js';
import { SimSafekeeper } from './sim-safekeeper.js';
import { ORIGIN, SEG_SIZE } from './toy-wal.js';
import { TTID } from './ttid.js';

/** A compute's number marks its WAL in one byte. */
export const COMPUTES_MAX = 60;
const PUBLISHED_MAX = 12;

export interface WorldOptions {
  readonly random: Random;
  readonly safekeepers: number;
  /** Safekeepers beside them that may become members; null = the configuration has no generations and never changes. */
  readonly spares: number | null;
  /** The timeline was created with its start; otherwise the first leader brings it. */
  readonly created: boolean;
  /** Time goes on in steps below this. */
  readonly tickMs: number;
  /** A safekeeper crashes before one in so many effects; 0 = never. */
  readonly crashOdds: number;
  readonly fault: Fault | null;
  /** Gets a line for every event. */
  readonly trace: ((line: string) => void) | null;
}

export class World {
  readonly random: Random;
  readonly fault: Fault | null;
  readonly safekeepers: SimSafekeeper[] = [];
  readonly computes: SimCompute[] = [];
  readonly network: Network;
  readonly checker: Checker;
  readonly store = new SimStore();
  readonly controller: SimController | null;
  /** The page server has WAL below in layers. */
  layersEnd: number = ORIGIN;
  /** `cuts`: truncations that dropped whole records. `refusals`: messages that broke a rule of the acceptor. */
  readonly counts = { commits: 0, crashes: 0, cuts: 0, refusals: 0, fenced: 0, partitions: 0, removals: 0, changes: 0 };
  nowMs = 0;
  readonly tickMs: number;
  crashOdds: number;
  /** Of all events so far: two runs of a seed that went the same way have the same. */
  digest = 0;
  private readonly trace: ((line: string) => void) | null;
  /** What safekeepers told the broker: comes late, in any order, many times, or never. */
  private published: { readonly from: SimSafekeeper; readonly info: PeerInfoInput }[] = [];

  constructor(options: WorldOptions) {
    this.random = options.random;
    this.fault = options.fault;
    this.tickMs = options.tickMs;
    this.crashOdds = options.crashOdds;
    this.trace = options.trace;
    this.network = new Network(this);
    this.checker = new Checker(this);
    this.controller = options.spares === null ? null : new SimController(this, options.safekeepers);
    const control = newControlState({
      ttid: TTID,
      startLsn: options.created ? ORIGIN : INVALID_LSN,
      pgVersion: 0,
      systemId: 0n,
      segSize: SEG_SIZE,
      membership: this.controller?.decided ?? NO_MEMBERSHIP,
      nowMs: 0,
    });
    for (let index = 0; index < options.safekeepers + (options.spares ?? 0); index++) {
      this.safekeepers.push(new SimSafekeeper(this, index, control, index < options.safekeepers));
    }
  }

  /** Those of a configuration; all when it has no generations. */
  members(named: readonly { readonly nodeId: number }[] | undefined): SimSafekeeper[] {
    if (named === undefined) return this.safekeepers;
    return named.map(({ nodeId }) => this.safekeepers[nodeId - 1] as SimSafekeeper);
  }

  /** The page server gets on with what some safekeeper calls committed, and tells another one. */
  digestWal(from: SimSafekeeper): void {
    if (from.state === null) return;
    this.layersEnd = Math.max(this.layersEnd, Math.min(this.checker.committedEnd, from.state.control.commitLsn));
    from.take({ kind: 'feedback', remoteConsistentLsn: lsn(this.layersEnd) }, null);
  }

  note(what: string, a = 0, b = 0, c = 0): void {
    let { digest } = this;
    for (const value of [what.length, what.charCodeAt(0), a, b, c]) digest = Math.imul(digest ^ value, 0x01000193) + 1;
    this.digest = digest >>> 0;
    this.trace?.(`${this.nowMs} ms: ${what} ${a} ${b} ${c}`);
  }

  get activeComputes(): SimCompute[] {
    return this.computes.filter((compute) => compute.isActive);
  }

  startCompute(reach: ReadonlySet<number> = this.someReach()): SimCompute {
    const compute = new SimCompute(this, this.computes.length + 1, reach);
    this.note('compute starts', compute.id);
    this.computes.push(compute);
    return compute;
  }

  kill(compute: SimCompute): void {
    this.note('compute killed', compute.id);
    compute.dead = true;
    this.network.lostCompute(compute);
  }

  partition(compute: SimCompute): void {
    compute.reach = this.someReach();
    this.counts.partitions += 1;
    this.note('partition', compute.id, compute.reach.size);
  }

  publish(from: SimSafekeeper): void {
    const { state } = from;
    if (state === null) return;
    const { commitLsn, backupLsn, peerHorizonLsn, remoteConsistentLsn } = state.control;
    const lastLogTerm = acceptorLastLogTerm(state);
    const positions = { commitLsn, backupLsn, peerHorizonLsn, remoteConsistentLsn };
    const info: PeerInfoInput = { kind: 'peer-info', lastLogTerm, ...positions };
    this.published = [...this.published.slice(1 - PUBLISHED_MAX), { from, info }];
  }

  hear(to: SimSafekeeper): void {
    const one = pick(this.random, this.published);
    if (one === undefined || one.from === to) return;
    this.note('heard', to.index, one.info.commitLsn, one.info.lastLogTerm);
    to.take(one.info, null);
  }

  /** All safekeepers; or a bare majority; or anything. */
  private someReach(): Set<number> {
    const count = this.safekeepers.length;
    const reach = new Set(this.safekeepers.map(({ index }) => index));
    const least = [count, Math.floor(count / 2) + 1, this.random(count + 1)][this.random(3)] as number;
    while (reach.size > least) reach.delete(this.random(count));
    return reach;
  }
}
