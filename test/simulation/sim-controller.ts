/**
 * The control plane of a simulated world: moves the timeline from one set of safekeepers to another with the production machine
 * (neon-local/core/membership-change.ts), one action at a time, in any order, with pauses; it forgets what it knew now and then and
 * goes on from what the safekeepers have.
 */
import { lsn } from '#shared/core/lsn.js';
import { compareLogs } from '#shared/consensus/term-history.js';
import { acceptorLastLogTerm } from '../../services/safekeeper/core/acceptor.js';
import { MembershipChange, startChange } from '../../services/neon-local/core/membership-change.js';
import type { Action, Configuration, Member } from '../../services/neon-local/core/membership-change.js';
import { pick } from './random.js';
import type { SimCompute } from './sim-compute.js';
import type { SimSafekeeper } from './sim-safekeeper.js';
import type { World } from './world.js';

const MEMBERS_MAX = 5;

export function memberOf(index: number): Member {
  return { nodeId: index + 1, grpcAddr: `sk${index}` };
}

export class SimController {
  /** The newest configuration that was decided, and the one before a change. */
  decided: Configuration;
  private change: MembershipChange | null = null;
  private readonly world: World;

  constructor(world: World, members: number) {
    this.world = world;
    const first = Array.from({ length: members }, (_, index) => memberOf(index));
    this.decided = { generation: 1, members: first, newMembers: [] };
  }

  get isIdle(): boolean {
    return this.change === null;
  }

  /** A majority of these must keep what is committed: until the final configuration is decided, the old members. */
  get keepers(): readonly Member[] {
    return this.decided.members;
  }

  /** One action, or the start of a change. */
  step(mayStart: boolean): void {
    const { world } = this;
    if (this.change === null) {
      if (mayStart && world.random(4) === 0) this.start();
      return;
    }
    // The process died; all it knew is what was decided.
    if (this.change.phase === 'joint' && world.random(20) === 0) this.change = new MembershipChange(this.decided);
    const action = pick(world.random, this.change.actions());
    if (action !== undefined) this.act(this.change, action);
    this.noteProgress(this.change);
  }

  private start(): void {
    const { world } = this;
    const all = world.safekeepers.map(({ index }) => index);
    const size = 1 + world.random(Math.min(MEMBERS_MAX, all.length));
    while (all.length > size) all.splice(world.random(all.length), 1);
    const members = all.map(memberOf);
    this.change = world.fault?.startChange?.(this.decided, members) ?? startChange(this.decided, members);
    this.decided = this.change.configuration;
    world.counts.changes += 1;
    world.note('membership change', this.decided.generation, this.decided.members.length, members.length);
  }

  private noteProgress(change: MembershipChange): void {
    if (change.configuration.generation !== this.decided.generation) {
      this.world.note('final membership', change.configuration.generation);
      this.decided = change.configuration;
      this.world.checker.committedIsKept(`configuration ${this.decided.generation}`);
    }
    if (change.phase === 'done') this.change = null;
  }

  /** Tells a compute who votes: those it knew may all have left. */
  notify(compute: SimCompute): void {
    const convert = ({ nodeId, grpcAddr }: Member) => ({ nodeId: BigInt(nodeId), grpcAddr });
    const { generation, members, newMembers } = this.decided;
    const membership = { generation, members: members.map(convert), newMembers: newMembers.map(convert) };
    compute.take({ kind: 'membership', membership });
  }

  private act(change: MembershipChange, action: Action): void {
    const target = this.of(action.member);
    const { nodeId } = action.member;
    if (target.isDown) return;
    this.world.note(action.kind, target.index);
    if (action.kind === 'exclude') {
      target.leave();
      change.reportExcluded(nodeId);
      return;
    }
    if (action.kind === 'pull') this.pull(target, action);
    else if (target.isUp && action.kind === 'set-membership') {
      target.take({ kind: 'membership', membership: action.configuration }, null);
    } else if (target.isUp && action.kind === 'bump-term') target.take({ kind: 'bump-term', term: action.term }, null);
    const { state } = target;
    if (state === null) {
      if (!target.isPresent) change.report(nodeId, 'absent');
      return;
    }
    const { control, flushLsn } = state;
    const { term, membership } = control;
    change.report(nodeId, {
      generation: membership.generation,
      term,
      lastLogTerm: acceptorLastLogTerm(state),
      flushLsn,
    });
  }

  /** From the most advanced of some of the sources, as io/pull.ts does. */
  private pull(target: SimSafekeeper, { from, configuration }: Extract<Action, { kind: 'pull' }>): void {
    if (target.isPresent) return;
    const sources = from
      .map((member) => this.of(member).state)
      .filter((state) => state !== null && (state.flushLsn > 0 || from.length === 1) && this.world.random(3) > 0)
      .filter((state) => state !== null);
    const best = sources.reduce<(typeof sources)[number] | null>((found, one) => {
      const log = (state: typeof one) => ({ lastLogTerm: acceptorLastLogTerm(state), flushLsn: state.flushLsn });
      return found === null || compareLogs(log(one), log(found)) > 0 ? one : found;
    }, null);
    if (best === null) return;
    const source = this.world.safekeepers[best.nodeId - 1] as SimSafekeeper;
    const term = Math.max(...sources.map(({ control }) => control.term));
    const control = { ...best.control, membership: configuration, term, partials: [] };
    target.install({ ...control, evictedLsn: lsn(0) }, source.disk, best.flushLsn);
  }

  private of({ nodeId }: Member): SimSafekeeper {
    return this.world.safekeepers[nodeId - 1] as SimSafekeeper;
  }
}
