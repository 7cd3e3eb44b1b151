import { strict as assert } from 'node:assert';
import {
  asked,
  averageLoad,
  boundsOf,
  goalOf,
  nextSize,
  parseCuRange,
  refused,
  resized,
  started,
  STEP_BYTES,
} from './autoscaling.js';
import type { Metrics, Scaling } from './autoscaling.js';
import { estimateWorkingSet, projectHighest } from './working-set.js';

const MIB = 1 << 20;
const GIB = 1 << 30;
const NOTHING: Metrics = { load: null, usedBytes: null, cachedBytes: null, workingSetPages: null };
const IDLE: Metrics = { ...NOTHING, load: 0, usedBytes: 50 * MIB, cachedBytes: 0 };
const pages = (bytes: number) => bytes / 8192;
const flat = (bytes: number) => Array.from({ length: 60 }, () => pages(bytes));

describe('autoscaling', () => {
  for (const [what, metrics, steps] of [
    ['idle', IDLE, 1],
    ['one process that runs', { ...IDLE, load: 1 }, 4],
    ['two', { ...IDLE, load: 2 }, 9],
    ['load is rounded', { ...IDLE, load: 0.3 }, 1],
    ['memory just fits', { ...IDLE, usedBytes: 0.75 * GIB - 100 * MIB }, 1],
    ['memory does not fit', { ...IDLE, usedBytes: 0.75 * GIB - 99 * MIB }, 2],
    ['memory decides over load', { ...IDLE, load: 1, usedBytes: 6 * GIB }, 9],
    ['the working set fits the file cache', { ...IDLE, workingSetPages: flat(GIB) }, 2],
    ['it would not', { ...IDLE, workingSetPages: flat(3.1 * GIB) }, 7],
    ['caches that are used count', { ...IDLE, usedBytes: GIB, cachedBytes: GIB, workingSetPages: flat(GIB) }, 3],
    ['only a part is known', { ...NOTHING, load: 1 }, 4],
  ] as const) {
    it(`has a goal: ${what}`, () => assert.equal(goalOf(metrics)?.steps, steps));
  }

  it('reads sizes', () => {
    assert.deepEqual(parseCuRange('2'), { min: 2, max: 2 });
    assert.deepEqual(parseCuRange('0.25-8'), { min: 0.25, max: 8 });
    assert.deepEqual(parseCuRange('0'), { min: 0, max: 0 });
    for (const text of ['', '-', '2-1', '0.3', '0-2', '500', 'two', '1-', '-1'])
      assert.throws(() => parseCuRange(text), text);
  });

  it('has bounds in steps, and no more than the machine', () => {
    assert.deepEqual(boundsOf({ min: 0.25, max: 2 }, 24 * GIB), { min: 1, max: 8 });
    assert.deepEqual(boundsOf({ min: 0.5, max: 8 }, 16 * GIB + 1), { min: 2, max: 16 });
    assert.deepEqual(boundsOf({ min: 8, max: 8 }, 16 * GIB), { min: 32, max: 32 });
  });

  const bounds = { min: 1, max: 8 };
  const at = (steps: number): Scaling => resized(started(bounds), steps);
  for (const [what, scaling, metrics, nowMs, expected] of [
    ['grows to the goal at once', at(1), { ...IDLE, load: 1 }, 0, { kind: 'grow', steps: 4, goal: 4 }],
    ['grows no further than it may', at(4), { ...IDLE, load: 50 }, 0, { kind: 'grow', steps: 8, goal: 8 }],
    ['shrinks one step a time', at(8), IDLE, 0, { kind: 'shrink', steps: 7, goal: 1 }],
    ['stays at the least', at(1), IDLE, 0, { kind: 'stay' }],
    [
      'comes back within bounds that were lowered',
      at(12),
      { ...IDLE, load: 50 },
      0,
      { kind: 'shrink', steps: 11, goal: 8 },
    ],
    ['comes back within bounds that were raised', at(0), NOTHING, 0, { kind: 'grow', steps: 1, goal: 1 }],
    ['does not shrink when load is not known', at(4), { ...IDLE, load: null }, 0, { kind: 'stay' }],
    ['does not shrink when memory is not known', at(4), { ...IDLE, usedBytes: null }, 0, { kind: 'stay' }],
    ['does nothing when nothing is known', at(4), NOTHING, 0, { kind: 'stay' }],
    ['grows when asked', asked(at(4), 0), IDLE, 9_999, { kind: 'grow', steps: 5, goal: 5 }],
    ['does not grow again for the same question', resized(asked(at(4), 0), 5), IDLE, 9_999, { kind: 'stay' }],
    ['forgets a question', asked(at(4), 0), IDLE, 10_000, { kind: 'shrink', steps: 3, goal: 1 }],
    ['waits after a refusal', refused(at(4), 3, 0), IDLE, 4_999, { kind: 'stay' }],
    ['tries again', refused(at(4), 3, 0), IDLE, 5_000, { kind: 'shrink', steps: 3, goal: 1 }],
    ['grows in spite of one', refused(at(4), 3, 0), { ...IDLE, load: 2 }, 1, { kind: 'grow', steps: 8, goal: 8 }],
  ] as const) {
    it(what, () => assert.deepEqual(nextSize(scaling, metrics, bounds, nowMs), expected));
  }

  it('averages load as the kernel does', () => {
    let load = 0;
    for (let second = 0; second < 60; second++) load = averageLoad(load, 2, 1_000, 60_000);
    assert.ok(Math.abs(load - 2 * (1 - Math.exp(-1))) < 1e-9);
    assert.equal(STEP_BYTES, GIB);
  });

  it('takes the end of the flat part of the curve for the working set', () => {
    const grows = Array.from({ length: 60 }, (_, minute) => Math.min(1000, 200 * (minute + 1)));
    assert.equal(estimateWorkingSet(grows), 1000);
    const scanBefore = Array.from({ length: 60 }, (_, minute) =>
      minute < 20 ? 1000 + minute : 50_000 + minute * 1000,
    );
    assert.ok(estimateWorkingSet(scanBefore) <= 1020, `${estimateWorkingSet(scanBefore)}`);
    assert.equal(estimateWorkingSet([7]), 7);
    assert.equal(estimateWorkingSet([]), 0);
    assert.equal(projectHighest([100, 200, 200], 0.5), 250);
    assert.equal(projectHighest([], 0.5), 0);
  });
});
