/**
 * What must hold in every world, whatever happens. The checker knows all that was ever elected, written and committed:
 *
 * - a term is won once, and continues a log that some earlier term wrote;
 * - a log that ends in a term is, byte for byte, a prefix of what that term's leader has;
 * - what is reported as committed ends at a record, is durable on a majority, agrees with everything committed before, is what its
 *   compute wrote, does not shrink, and is never below the start of the term that reports it;
 * - it stays durable on a majority for ever, and every later term starts behind it;
 * - a safekeeper calls committed only what is, and calls needless (horizon) only what every safekeeper has (while members do not change);
 * - WAL is removed only when it is committed, in the object store, and in layers; nobody needs it from a disk after that;
 * - while members change, "a majority" is one of the old members until the final configuration is decided, then of the new ones; what a
 *   leader reports needs one of both sets that it knows of.
 *
 * What a single safekeeper promised is checked by sim-safekeeper.ts, progress by heal.ts.
 */
import { strict as assert } from 'node:assert';
import { lastLogTerm } from '#shared/consensus/term-history.js';
import type { SimCompute } from './sim-compute.js';
import type { SimSafekeeper } from './sim-safekeeper.js';
import { lastRecordEnd, LOG_BYTES_MAX, ORIGIN } from './toy-wal.js';
import type { World } from './world.js';

/** What one term's leader has, and goes on to write. */
interface TermLog {
  readonly startLsn: number;
  readonly bytes: Uint8Array;
}

export class Checker {
  /** All WAL that was ever reported as committed ends here. */
  committedEnd: number = ORIGIN;
  private readonly committedBytes = new Uint8Array(LOG_BYTES_MAX);
  private readonly leaders = new Map<number, TermLog>();
  private readonly commitOfTerm = new Map<number, number>();
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  get termsWon(): number {
    return this.leaders.size;
  }

  elected(compute: SimCompute, term: number): void {
    const { startLsn, history } = compute.proposer;
    this.world.note('elected', compute.id, term, startLsn);
    assert.ok(!this.leaders.has(term), `term ${term} has two leaders`);
    const parentTerm = history.at(-2)?.term ?? 0;
    const parent = this.leaders.get(parentTerm);
    assert.ok(parent !== undefined || parentTerm === 0, `term ${term} continues term ${parentTerm}, which nobody won`);
    assert.ok(parent !== undefined || startLsn === ORIGIN, `term ${term} starts at ${startLsn} after no other`);
    // A new one even for a compute that was elected before: it lost its donor before it wrote anything.
    compute.bytes = new Uint8Array(LOG_BYTES_MAX);
    if (parent !== undefined) compute.bytes.set(parent.bytes.subarray(0, startLsn));
    this.leaders.set(term, { startLsn, bytes: compute.bytes });
    this.termsAreInOrder();
  }

  committed(compute: SimCompute, commitLsn: number): void {
    const { term, startLsn } = compute.proposer;
    this.world.note('committed', compute.id, term, commitLsn);
    this.world.counts.commits += 1;
    assert.ok(commitLsn > compute.committedLsn, 'a commit position fell');
    compute.committedLsn = commitLsn;
    assert.ok(commitLsn >= startLsn, `term ${term} starts at ${startLsn} and counts ${commitLsn} as committed`);
    const end = lastRecordEnd(compute.bytes, startLsn, commitLsn);
    assert.equal(end, commitLsn, `commit ${commitLsn} lies inside a record`);
    for (const set of this.setsOf(compute)) {
      const copies = this.copiesOf(compute.bytes, commitLsn, set);
      const isMajority = copies * 2 > set.length;
      assert.ok(
        isMajority,
        `commit ${commitLsn} of term ${term} is durable on ${copies} of ${set.length} members alone`,
      );
    }
    const upTo = Math.min(commitLsn, this.committedEnd);
    assert.ok(same(compute.bytes, this.committedBytes, upTo), `term ${term} contradicts committed WAL below ${upTo}`);
    this.commitOfTerm.set(term, commitLsn);
    this.termsAreInOrder();
    if (commitLsn > this.committedEnd) {
      this.committedBytes.set(compute.bytes.subarray(0, commitLsn));
      this.committedEnd = commitLsn;
    }
  }

  /** After something was dropped. */
  committedIsKept(when: string): void {
    const members = this.world.members(this.world.controller?.keepers);
    const copies = this.copiesOf(this.committedBytes, this.committedEnd, members);
    const isMajority = copies * 2 > members.length || this.committedEnd === ORIGIN;
    assert.ok(isMajority, `${when} leaves ${copies} safekeepers with WAL committed up to ${this.committedEnd}`);
  }

  /** After any step or start of a safekeeper. */
  safekeeper({ index, state, disk }: SimSafekeeper): void {
    if (state === null || state.flushLsn === 0) return;
    const { control, flushLsn } = state;
    const term = lastLogTerm(control.history, flushLsn);
    const leader = this.leaders.get(term);
    assert.ok(leader !== undefined || flushLsn <= ORIGIN, `safekeeper ${index} has WAL of term ${term} of nobody`);
    const asWritten = leader === undefined || same(disk.bytes, leader.bytes, flushLsn);
    assert.ok(asWritten, `safekeeper ${index} has a log up to ${flushLsn} that is not that of term ${term}`);
    assert.ok(
      same(disk.bytes, disk.durable, flushLsn),
      `safekeeper ${index} calls WAL up to ${flushLsn} durable that is not`,
    );
    const { commitLsn, peerHorizonLsn } = control;
    assert.ok(commitLsn <= this.committedEnd, `safekeeper ${index} calls ${commitLsn} committed, which is not`);
    assert.ok(same(disk.bytes, this.committedBytes, commitLsn), `safekeeper ${index} has other committed WAL`);
    // While members change, one that comes may have less than those that were there before; it gets it from the object store.
    if (peerHorizonLsn <= ORIGIN || this.world.controller !== null) return;
    const isNeedless =
      peerHorizonLsn <= this.committedEnd &&
      this.copiesOf(this.committedBytes, peerHorizonLsn, this.world.safekeepers) === this.world.safekeepers.length;
    assert.ok(isNeedless, `safekeeper ${index} calls WAL below ${peerHorizonLsn} needless, which some still lack`);
  }

  /** Before a safekeeper removes WAL: it must be committed, in layers, and in the object store. */
  removed({ index }: SimSafekeeper, below: number): void {
    const { store, layersEnd } = this.world;
    if (below <= ORIGIN) return;
    const isStored = below <= store.end && below <= this.committedEnd && same(store.bytes, this.committedBytes, below);
    assert.ok(
      isStored,
      `safekeeper ${index} removes WAL below ${below}, which the object store has up to ${store.end}`,
    );
    assert.ok(below <= layersEnd, `safekeeper ${index} removes WAL below ${below}, layers go up to ${layersEnd}`);
    this.world.counts.removals += 1;
  }

  /**
   * Of each set a majority must have what is committed. A compute may report late what its configuration committed before it was over:
   * then those that must keep it have it.
   */
  private setsOf(compute: SimCompute): SimSafekeeper[][] {
    const { controller } = this.world;
    const { generation, members, newMembers } = compute.proposer.membership;
    if (controller === null) return [this.world.safekeepers];
    if (generation < controller.decided.generation) return [this.world.members(controller.keepers)];
    const sets = newMembers.length === 0 ? [members] : [members, newMembers];
    return sets.map((set) => this.world.members(set.map(({ nodeId }) => ({ nodeId: Number(nodeId) }))));
  }

  private copiesOf(bytes: Uint8Array, end: number, among: readonly SimSafekeeper[]): number {
    return among.filter(({ disk }) => same(disk.durable, bytes, end)).length;
  }

  /** News travel slowly: a later term may have gone on long before the commit of an earlier one is reported. */
  private termsAreInOrder(): void {
    for (const [term, commitLsn] of this.commitOfTerm) {
      for (const [later, { startLsn }] of this.leaders) {
        const inOrder = later <= term || startLsn >= commitLsn;
        assert.ok(inOrder, `term ${later} starts at ${startLsn}, term ${term} committed ${commitLsn}`);
      }
    }
  }
}

/** Whether WAL before `end` is the same. */
function same(a: Uint8Array, b: Uint8Array, end: number): boolean {
  return end <= ORIGIN || Buffer.compare(a.subarray(ORIGIN, end), b.subarray(ORIGIN, end)) === 0;
}
