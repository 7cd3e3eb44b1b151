/**
 * When commits were: a list of (LSN, time) that is kept in the index, so that history can be kept by time and an LSN be found for one.
 *
 * Points are ends of commit records. Of each period the last commit is kept; periods are a second for the newest ten minutes of commits,
 * a minute for the day before, ten minutes for what is older. So what is found for a time is a state with no later commit in it, and at
 * most one period too old. Times of commits do not always rise with their LSNs: only those that do are points.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import { keyOf } from '../key.js';
import { SLRU_CLOG } from '../keyspace.js';
import { clogCommitTime } from '../redo/neon-records.js';
import type { MemoryLayer } from './memory-layer.js';
import { NO_VERSION } from './memory-layer.js';

export interface TimePoint {
  readonly lsn: Lsn;
  /** Unix time of the commit. */
  readonly timeMs: number;
}

/** Age in ms relative to the newest point, and the period for what is younger. */
const PERIODS: ReadonlyArray<readonly [number, number]> = [
  [600_000, 1000],
  [86_400_000, 60_000],
  [Infinity, 600_000],
];
/** A year of the coarsest period: beyond that the oldest points go, and the oldest history is found by size only. */
const POINTS_MAX = 60_000;

/** 2000-01-01, the epoch of commit times, in Unix time. */
const POSTGRES_EPOCH_MS = 946_684_800_000;
/** In the year 33658; the index writes at most 15 digits. */
const TIME_MS_END = 1e15;

const FIRST_CLOG_KEY = { field1: 1, field2: SLRU_CLOG, field3: 0, field4: 0, field5: 0, field6: 0 };
const CLOG_START = keyOf(FIRST_CLOG_KEY);
const CLOG_END = keyOf({ ...FIRST_CLOG_KEY, field2: SLRU_CLOG + 1 });

function periodOf(point: TimePoint, newestMs: number): number {
  const age = newestMs - point.timeMs;
  const length = PERIODS.find(([limit]) => age < limit)![1];
  return Math.floor(point.timeMs / length) * length;
}

/** `added` lie above `points`. Both, and the result, have rising LSNs and times. */
export function mergePoints(points: readonly TimePoint[], added: readonly TimePoint[]): TimePoint[] {
  const all = [...points];
  for (const point of added) {
    const last = all.at(-1);
    if (last !== undefined && (point.timeMs < last.timeMs || point.lsn <= last.lsn)) continue;
    // Of commits at one time the last counts: a state without the others would be older than that time.
    if (point.timeMs === last?.timeMs) all.pop();
    all.push(point);
  }
  return thin(all);
}

function thin(points: readonly TimePoint[]): TimePoint[] {
  const newestMs = points.at(-1)?.timeMs ?? 0;
  const kept = points.filter((point, i) => {
    const next = points[i + 1];
    return next === undefined || periodOf(point, newestMs) !== periodOf(next, newestMs);
  });
  return kept.slice(-POINTS_MAX);
}

/** Commits of an in-memory layer, thinned. */
export function layerPoints(layer: MemoryLayer): TimePoint[] {
  const found: TimePoint[] = [];
  layer.scan(CLOG_START, CLOG_END, MAX_LSN, (_key, newest) => {
    for (let at = newest; at !== NO_VERSION; at = layer.before(at)) {
      const timeUs = clogCommitTime(layer.valueAt(at));
      if (timeUs === null) continue;
      const timeMs = POSTGRES_EPOCH_MS + Math.floor(timeUs / 1000);
      // A clock that is that wrong says nothing, and the index could not be read again.
      if (timeMs >= 0 && timeMs < TIME_MS_END) found.push({ lsn: layer.lsnAt(at), timeMs });
    }
  });
  found.sort((a, b) => a.lsn - b.lsn);
  return mergePoints([], found);
}

/** The newest point at or before a time; null when all are later. */
export function lastPointUpTo(points: readonly TimePoint[], timeMs: number): TimePoint | null {
  return points.findLast((point) => point.timeMs <= timeMs) ?? null;
}

/** Drops what lies below `cutoff`, except the last point there: it says how old the cutoff is. */
export function pointsFrom(points: readonly TimePoint[], cutoff: Lsn): TimePoint[] {
  const first = points.findLastIndex((point) => point.lsn <= cutoff);
  return points.slice(Math.max(0, first));
}

/** Answer to "what LSN had the timeline at that time?". */
export type LsnOfTime =
  /** The end of a commit at or shortly before that time, with later commits above it. */
  | { readonly kind: 'present'; readonly lsn: Lsn }
  /** No commit is later: the head. */
  | { readonly kind: 'future'; readonly lsn: Lsn }
  /** All known commits are later: the oldest LSN that can be read. */
  | { readonly kind: 'past'; readonly lsn: Lsn }
  /** There are no commits. */
  | { readonly kind: 'nodata'; readonly lsn: Lsn };

export function findLsnOfTime(
  points: readonly TimePoint[],
  timeMs: number,
  limits: { minReadableLsn: Lsn; lastRecordLsn: Lsn },
): LsnOfTime {
  const { minReadableLsn, lastRecordLsn } = limits;
  const newest = points.at(-1);
  if (newest === undefined) return { kind: 'nodata', lsn: minReadableLsn };
  if (newest.timeMs <= timeMs) return { kind: 'future', lsn: lastRecordLsn };
  const point = lastPointUpTo(points, timeMs);
  if (point === null || point.lsn < minReadableLsn) return { kind: 'past', lsn: minReadableLsn };
  return { kind: 'present', lsn: lsn(point.lsn) };
}
