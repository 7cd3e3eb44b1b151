/**
 * Synthetic size: the least bytes that could hold all that can be read of a tenant, as a measure of use that does not depend on layers.
 *
 * History is a tree of points: on each timeline its begin or branch point, its cutoff, the points where branches leave, its head, in LSN
 * order. A point is at hand when a whole state is kept there (its logical size), or when the point before it is at hand and the WAL
 * between is kept (the difference of LSNs). Cutoffs must be at hand; from a cutoff on all WAL of its timeline must be kept. A branch point is
 * at hand only if that pays for what hangs on it. The cheapest choice is found from the leaves up.
 */
import type { Lsn } from '#shared/core/lsn.js';

export interface SizedTimeline {
  readonly id: string;
  readonly ancestorId: string | null;
  /** Branch point; for a root where its history begins. */
  readonly beginLsn: Lsn;
  /** Reads below are refused; at or above beginLsn. */
  readonly cutoffLsn: Lsn;
  readonly headLsn: Lsn;
  /** Logical size at beginLsn (Infinity when that cannot be read any more) and at cutoffLsn. */
  readonly beginBytes: number;
  readonly cutoffBytes: number;
}

export interface SyntheticSize {
  readonly totalBytes: number;
  /** By id of the timeline on which the bytes lie. */
  readonly timelines: ReadonlyMap<string, number>;
}

interface Point {
  readonly timelineId: string;
  readonly lsn: Lsn;
  /** Of a whole state here; Infinity where it is not known and need not be: then a neighbour will do as well. */
  readonly stateBytes: number;
  /** From the point before. */
  readonly walBytes: number;
  /** Must be at hand. */
  readonly isNeeded: boolean;
  /** Must be at hand by the WAL from the point before. */
  readonly isChained: boolean;
  readonly next: Point[];
}

type Choice = 'state' | 'wal' | 'none';

/** Cost of a point and all behind it, when the point before it is at hand, and when it is not. */
interface Costs {
  readonly withBefore: { readonly bytes: number; readonly choice: Choice };
  readonly withoutBefore: { readonly bytes: number; readonly choice: Choice };
}

/** Timelines in any order; each ancestor must be among them. */
export function syntheticSize(timelines: readonly SizedTimeline[]): SyntheticSize {
  const children = Map.groupBy(timelines, ({ ancestorId }) => ancestorId);
  const sizes = new Map(timelines.map(({ id }) => [id, 0]));
  let totalBytes = 0;
  for (const root of children.get(null) ?? []) {
    const first = pointsOf(root, children);
    const costs = new Map<Point, Costs>();
    // Leaves first: no recursion, histories can be long.
    for (const point of inOrder(first).reverse()) costs.set(point, costsOf(point, costs));
    totalBytes += costs.get(first)!.withoutBefore.bytes;
    attribute(first, costs, sizes);
  }
  return { totalBytes, timelines: sizes };
}

/** The chain of a timeline's points with everything that branches off; returns its first. */
function pointsOf(root: SizedTimeline, children: ReadonlyMap<string | null, readonly SizedTimeline[]>): Point {
  const begin = beginPoint(root);
  const open: { timeline: SizedTimeline; begin: Point }[] = [{ timeline: root, begin }];
  for (const { timeline, begin: first } of open) {
    let last = first;
    const branches = [...(children.get(timeline.id) ?? [])].sort((a, b) => a.beginLsn - b.beginLsn);
    const reach = (lsn: Lsn, stateBytes: number): Point => {
      if (lsn <= last.lsn) return last;
      const isKept = lsn > timeline.cutoffLsn;
      const walBytes = lsn - last.lsn;
      const isNeeded = lsn >= timeline.cutoffLsn;
      const point = { timelineId: timeline.id, lsn, stateBytes, walBytes, isNeeded, isChained: isKept, next: [] };
      last.next.push(point);
      last = point;
      return point;
    };
    let isCutoffPast = first.lsn >= timeline.cutoffLsn;
    const passCutoff = (): void => {
      if (!isCutoffPast) reach(timeline.cutoffLsn, timeline.cutoffBytes);
      isCutoffPast = true;
    };
    for (const branch of branches) {
      if (branch.beginLsn >= timeline.cutoffLsn) passCutoff();
      const at = reach(branch.beginLsn, branch.beginBytes);
      const branchBegin = branchPoint(branch);
      at.next.push(branchBegin);
      open.push({ timeline: branch, begin: branchBegin });
    }
    passCutoff();
    reach(timeline.headLsn, Infinity);
  }
  return begin;
}

function beginPoint({ id, beginLsn, cutoffLsn, beginBytes }: SizedTimeline): Point {
  const isNeeded = beginLsn >= cutoffLsn;
  return {
    timelineId: id,
    lsn: beginLsn,
    stateBytes: beginBytes,
    walBytes: Infinity,
    isNeeded,
    isChained: false,
    next: [],
  };
}

/** The same state as the ancestor's point, on the account of the branch when it is kept for it alone. */
function branchPoint(branch: SizedTimeline): Point {
  return { ...beginPoint(branch), walBytes: 0 };
}

function inOrder(first: Point): Point[] {
  const points = [first];
  for (const point of points) points.push(...point.next);
  return points;
}

function costsOf(point: Point, costs: ReadonlyMap<Point, Costs>): Costs {
  let atHand = 0;
  let notAtHand = 0;
  for (const next of point.next) {
    atHand += costs.get(next)!.withBefore.bytes;
    notAtHand += costs.get(next)!.withoutBefore.bytes;
  }
  const state = { bytes: point.isChained ? Infinity : point.stateBytes + atHand, choice: 'state' as const };
  const wal = { bytes: point.walBytes + atHand, choice: 'wal' as const };
  const none = { bytes: point.isNeeded ? Infinity : notAtHand, choice: 'none' as const };
  return { withBefore: cheapest([wal, state, none]), withoutBefore: cheapest([state, none]) };
}

function cheapest<T extends { readonly bytes: number }>(choices: readonly T[]): T {
  return choices.reduce((best, choice) => (choice.bytes < best.bytes ? choice : best));
}

function attribute(first: Point, costs: ReadonlyMap<Point, Costs>, sizes: Map<string, number>): void {
  const open: { point: Point; isBeforeAtHand: boolean }[] = [{ point: first, isBeforeAtHand: false }];
  for (const { point, isBeforeAtHand } of open) {
    const { withBefore, withoutBefore } = costs.get(point)!;
    const { choice } = isBeforeAtHand ? withBefore : withoutBefore;
    const bytes = choice === 'state' ? point.stateBytes : choice === 'wal' ? point.walBytes : 0;
    sizes.set(point.timelineId, (sizes.get(point.timelineId) ?? 0) + bytes);
    for (const next of point.next) open.push({ point: next, isBeforeAtHand: choice !== 'none' });
  }
}
