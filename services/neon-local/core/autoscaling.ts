/**
 * How large a compute shall be: from what it was seen to use, within its bounds. The rules are those of Neon's autoscaler-agent. Pure.
 *
 *   a step   0.25 CU = a quarter of a processor, 1 GiB (1 CU is what its console calls one: 1 vCPU, 4 GiB)
 *
 *   processor     load / 0.9                          rounded
 *   memory        used / 0.75, and (used + cache) / 0.9      used: not reclaimable, and 100 MiB of others
 *   working set   bytes / 0.75                        what the file cache, 75 % of memory, would have to hold
 *
 * The greatest of them is the goal, rounded up. What is not known cannot make a compute smaller. It grows to the goal at once, and
 * shrinks by one step a time, if its monitor agrees.
 */
import { StorageError } from '#shared/core/errors.js';
import { estimateWorkingSet, projectHighest } from './working-set.js';

const MIB = 1 << 20;
export const STEPS_PER_CU = 4;
export const STEP_CPUS = 0.25;
export const STEP_BYTES = 1 << 30;
/** Of the reference's API, far above any machine. */
export const CU_MAX = 128;

const LOAD_TARGET = 0.9;
const USAGE_TARGET = 0.75;
const TOTAL_TARGET = 0.9;
const CACHE_RATIO = 0.75;
const OTHERS_BYTES = 100 * MIB;
const PAGE_BYTES = 8192;
/** Half a minute ahead. */
const PROJECTION_MINUTES = 0.5;
const REQUEST_VALID_MS = 10_000;
const RETRY_DENIED_MS = 5_000;

export interface Metrics {
  /** Processes that run or want to, on average over a minute; null: not known. */
  readonly load: number | null;
  /** Memory that cannot be reclaimed. */
  readonly usedBytes: number | null;
  /** Caches that can be. */
  readonly cachedBytes: number | null;
  /** Pages needed in the last 1, 2, … 60 minutes; null: not known, and not asked for. */
  readonly workingSetPages: readonly number[] | null;
}

/** In steps. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
}

export interface Scaling {
  readonly steps: number;
  /** The monitor asked for more memory. */
  readonly requested: { readonly atMs: number; readonly steps: number } | null;
  /** The monitor refused to be made this small. */
  readonly denied: { readonly atMs: number; readonly steps: number } | null;
}

export type ScalingAction =
  { readonly kind: 'stay' } | { readonly kind: 'grow' | 'shrink'; readonly steps: number; readonly goal: number };

export interface CuRange {
  readonly min: number;
  readonly max: number;
}

/** Throws StorageError `invalid`. Both 0: not limited. */
export function checkCuRange({ min, max }: CuRange): CuRange {
  const isSize = (cu: number): boolean => cu > 0 && cu <= CU_MAX && Number.isInteger(cu * STEPS_PER_CU);
  if ((min === 0 && max === 0) || (isSize(min) && isSize(max) && min <= max)) return { min, max };
  throw new StorageError(
    'invalid',
    `a size from ${min} to ${max} CU is not possible: sizes are multiples of 0.25, up to ${CU_MAX}, the smaller one first`,
  );
}

/** "2", or "0.5-3". Throws StorageError `invalid`. */
export function parseCuRange(text: string): CuRange {
  const match = /^(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?$/.exec(text.trim());
  if (match === null)
    throw new StorageError('invalid', `"${text}" is no size; write compute units, such as 2 or 0.5-3`);
  const min = Number(match[1]);
  return checkCuRange({ min, max: match[2] === undefined ? min : Number(match[2]) });
}

/** As a user wrote them; a machine that is smaller than the largest size is the largest size. */
export function boundsOf(cu: CuRange, machineBytes: number): Bounds {
  const min = Math.round(cu.min * STEPS_PER_CU);
  const max = Math.round(cu.max * STEPS_PER_CU);
  return { min, max: Math.max(min, Math.min(max, Math.floor(machineBytes / STEP_BYTES))) };
}

function workingSetBytes(pages: readonly number[]): number {
  const estimate = estimateWorkingSet(pages);
  const projected = projectHighest(
    pages.filter((value) => value <= estimate),
    PROJECTION_MINUTES,
  );
  return projected * PAGE_BYTES;
}

/** In steps, before the bounds; null: nothing is known. */
export function goalOf(metrics: Metrics): { readonly steps: number; readonly isWhole: boolean } | null {
  const { load, usedBytes, cachedBytes, workingSetPages } = metrics;
  const parts: number[] = [];
  const cached = workingSetPages === null ? null : workingSetBytes(workingSetPages);
  if (load !== null) parts.push(Math.round(load / LOAD_TARGET / STEP_CPUS));
  if (usedBytes !== null) {
    const used = usedBytes + OTHERS_BYTES;
    parts.push(used / USAGE_TARGET / STEP_BYTES);
    if (cached !== null && cachedBytes !== null) {
      parts.push((Math.min(cached, cachedBytes) + used) / TOTAL_TARGET / STEP_BYTES);
    }
  }
  if (cached !== null) parts.push(cached / CACHE_RATIO / STEP_BYTES);
  if (parts.length === 0) return null;
  return { steps: Math.ceil(Math.max(...parts)), isWhole: load !== null && usedBytes !== null };
}

/** `scaling`: the present. The caller does what is said, and tells the outcome by grown(), shrunk() or refused(). */
export function nextSize(scaling: Scaling, metrics: Metrics, bounds: Bounds, nowMs: number): ScalingAction {
  const { steps, requested, denied } = scaling;
  const clamp = (value: number): number => Math.max(bounds.min, Math.min(bounds.max, value));
  const found = goalOf(metrics);
  let goal = found === null ? steps : found.steps;
  if (found?.isWhole !== true) goal = Math.max(goal, steps);
  if (requested !== null && nowMs - requested.atMs < REQUEST_VALID_MS) goal = Math.max(goal, requested.steps + 1);
  if (denied !== null && nowMs - denied.atMs < RETRY_DENIED_MS) goal = Math.max(goal, denied.steps + 1);
  goal = clamp(goal);
  if (goal > steps) return { kind: 'grow', steps: goal, goal };
  if (goal < steps) return { kind: 'shrink', steps: Math.max(goal, steps - 1), goal };
  return { kind: 'stay' };
}

export function started(bounds: Bounds): Scaling {
  return { steps: bounds.min, requested: null, denied: null };
}

export function resized(scaling: Scaling, steps: number): Scaling {
  return { ...scaling, steps, denied: null };
}

export function refused(scaling: Scaling, steps: number, atMs: number): Scaling {
  return { ...scaling, denied: { atMs, steps } };
}

export function asked(scaling: Scaling, atMs: number): Scaling {
  return { ...scaling, requested: { atMs, steps: scaling.steps } };
}

/** As the kernel averages its load: `count` processes wanted to run at a look, `passedMs` after the one before. */
export function averageLoad(before: number, count: number, passedMs: number, windowMs: number): number {
  const kept = Math.exp(-passedMs / windowMs);
  return before * kept + count * (1 - kept);
}
