/**
 * Moves a timeline from one set of safekeepers to another without losing anything, while computes come and go. A pure machine: it says
 * what is to be done, in any order and as often as needed, and is told what each safekeeper then says of itself.
 *
 *   joint   generation + 1, old and new members. The new ones get the timeline first, so that nobody waits long for them. Then the old ones
 *           are told; from when a majority of them has it, nothing is elected or committed in the old configuration any more, and
 *           what is committed needs a majority of both. What they have then (highest log, highest term) is what the new ones must have:
 *           each gets the timeline, the configuration and that term, until a majority of them has that log.
 *   final   generation + 2, the new members alone. From when a majority of them has it, the others may be excluded.
 *
 * Everything it knows it can find out again: `resumeChange` goes on from the newest configuration that any safekeeper has.
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { compareLogs } from '#shared/consensus/term-history.js';

export interface Member {
  readonly nodeId: number;
  readonly grpcAddr: string;
}

export interface Configuration {
  readonly generation: number;
  readonly members: readonly Member[];
  /** Empty unless a change is under way. */
  readonly newMembers: readonly Member[];
}

/** What a safekeeper says of the timeline. */
export interface MemberStatus {
  readonly generation: number;
  readonly term: number;
  readonly lastLogTerm: number;
  readonly flushLsn: Lsn;
}

/** `absent`: the timeline is not there. `unknown`: not asked yet, or no answer. */
type Known = MemberStatus | 'absent' | 'unknown';

export type Action =
  | { readonly kind: 'set-membership'; readonly member: Member; readonly configuration: Configuration }
  | {
      readonly kind: 'pull';
      readonly member: Member;
      readonly from: readonly Member[];
      readonly configuration: Configuration;
    }
  | { readonly kind: 'bump-term'; readonly member: Member; readonly term: number }
  /** Only its status is wanted: it has not caught up yet, or nothing is known of it. */
  | { readonly kind: 'ask'; readonly member: Member }
  | { readonly kind: 'exclude'; readonly member: Member; readonly generation: number };

export type ChangePhase = 'joint' | 'final' | 'done';

export class MembershipChange {
  phase: ChangePhase = 'joint';
  configuration: Configuration;
  private readonly leaving: readonly Member[];
  private readonly known = new Map<number, Known>();
  /** What each old member had when it first was in the joint configuration. */
  private readonly switched = new Map<number, MemberStatus>();
  private readonly excluded = new Set<number>();

  /** Goes on with a joint configuration. */
  constructor(joint: Configuration) {
    this.configuration = joint;
    const { members, newMembers } = joint;
    this.leaving = members.filter((member) => !newMembers.some(({ nodeId }) => nodeId === member.nodeId));
  }

  /** What is to be done now; each action's outcome is reported. Empty when all is done. */
  actions(): Action[] {
    if (this.phase === 'joint') return this.jointActions();
    if (this.phase === 'final') return this.finalActions();
    return [];
  }

  /** What a safekeeper says after an action, or says that it has no such timeline. */
  report(nodeId: number, status: MemberStatus | 'absent'): void {
    this.known.set(nodeId, status);
    const { generation, members } = this.configuration;
    const isOld = members.some((member) => member.nodeId === nodeId);
    if (this.phase === 'joint' && isOld && status !== 'absent' && status.generation >= generation) {
      if (!this.switched.has(nodeId)) this.switched.set(nodeId, status);
    }
    this.advance();
  }

  reportExcluded(nodeId: number): void {
    this.excluded.add(nodeId);
    this.advance();
  }

  private jointActions(): Action[] {
    const { members, newMembers } = this.configuration;
    const actions: Action[] = [];
    for (const member of newMembers) {
      const known = this.known.get(member.nodeId) ?? 'unknown';
      if (known === 'absent') actions.push(this.pull(member, members));
      else if (known === 'unknown') actions.push({ kind: 'ask', member });
    }
    if (!isMajority(newMembers, ({ nodeId }) => typeof this.known.get(nodeId) === 'object')) return actions;
    for (const member of members) if (!this.switched.has(member.nodeId)) actions.push(this.tell(member));
    if (!this.oldHaveSwitched()) return actions;
    const { term } = this.target();
    for (const member of newMembers) {
      const known = this.known.get(member.nodeId);
      if (typeof known !== 'object') continue;
      if (known.generation < this.configuration.generation) actions.push(this.tell(member));
      else if (known.term < term) actions.push({ kind: 'bump-term', member, term });
      else if (!this.isReady(member)) actions.push({ kind: 'ask', member });
    }
    return actions;
  }

  private finalActions(): Action[] {
    const { members, generation } = this.configuration;
    const actions: Action[] = [];
    for (const member of members) {
      const known = this.known.get(member.nodeId) ?? 'unknown';
      if (known === 'absent') actions.push(this.pull(member, members));
      else if (known === 'unknown' || known.generation < generation) actions.push(this.tell(member));
    }
    if (!this.newHaveSwitched()) return actions;
    for (const member of this.leaving) {
      if (!this.excluded.has(member.nodeId)) actions.push({ kind: 'exclude', member, generation });
    }
    return actions;
  }

  private advance(): void {
    const { generation, newMembers } = this.configuration;
    if (this.phase === 'joint' && this.oldHaveSwitched() && isMajority(newMembers, (one) => this.isReady(one))) {
      this.phase = 'final';
      this.configuration = { generation: generation + 1, members: newMembers, newMembers: [] };
    } else if (this.phase === 'final') {
      const isEverywhere = this.finalActions().length === 0;
      if (isEverywhere) this.phase = 'done';
    }
  }

  private tell(member: Member): Action {
    return { kind: 'set-membership', member, configuration: this.configuration };
  }

  private pull(member: Member, from: readonly Member[]): Action {
    const others = from.filter(({ nodeId }) => nodeId !== member.nodeId);
    return { kind: 'pull', member, from: others, configuration: this.configuration };
  }

  private oldHaveSwitched(): boolean {
    return isMajority(this.configuration.members, ({ nodeId }) => this.switched.has(nodeId));
  }

  private newHaveSwitched(): boolean {
    const { members, generation } = this.configuration;
    return isMajority(members, ({ nodeId }) => {
      const known = this.known.get(nodeId);
      return typeof known === 'object' && known.generation >= generation;
    });
  }

  /** The newest log and the highest term of the old members that have switched. */
  private target(): MemberStatus {
    const all = [...this.switched.values()];
    const log = all.reduce((best, one) => (compareLogs(one, best) > 0 ? one : best));
    return { ...log, term: Math.max(...all.map(({ term }) => term)) };
  }

  private isReady({ nodeId }: Member): boolean {
    const known = this.known.get(nodeId);
    if (typeof known !== 'object' || known.generation < this.configuration.generation) return false;
    const target = this.target();
    return known.term >= target.term && compareLogs(known, target) >= 0;
  }
}

/** From a configuration that no change is under way in. Throws `invalid` for a set that is none. */
export function startChange(from: Configuration, newMembers: readonly Member[]): MembershipChange {
  const ids = new Set(newMembers.map(({ nodeId }) => nodeId));
  if (newMembers.length === 0 || ids.size !== newMembers.length) {
    throw new StorageError('invalid', 'a configuration needs members, each once');
  }
  if (from.newMembers.length > 0) {
    throw new StorageError('precondition', `the change of configuration ${from.generation} is not finished`);
  }
  return new MembershipChange({ generation: from.generation + 1, members: from.members, newMembers });
}

function isMajority(members: readonly Member[], agrees: (member: Member) => boolean): boolean {
  return members.filter(agrees).length * 2 > members.length;
}
