import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import type { SizedTimeline } from './synthetic-size.js';
import { syntheticSize } from './synthetic-size.js';

function timeline(
  id: string,
  lsns: readonly [number, number, number],
  bytes: readonly [number, number],
  ancestorId: string | null = null,
): SizedTimeline {
  const [beginLsn, cutoffLsn, headLsn] = lsns.map(lsn) as [
    SizedTimeline['beginLsn'],
    SizedTimeline['cutoffLsn'],
    SizedTimeline['headLsn'],
  ];
  return { id, ancestorId, beginLsn, cutoffLsn, headLsn, beginBytes: bytes[0], cutoffBytes: bytes[1] };
}

describe('synthetic size', () => {
  it('is a state at the cutoff and the WAL since, or all WAL where that is less', () => {
    assert.equal(syntheticSize([timeline('a', [100, 1100, 1500], [50, 700])]).totalBytes, 700 + 400);
    assert.equal(syntheticSize([timeline('a', [100, 300, 1500], [50, 700])]).totalBytes, 50 + 200 + 1200);
    assert.equal(syntheticSize([timeline('a', [100, 100, 100], [50, 50])]).totalBytes, 50);
  });

  it('of a branch is only its own WAL while its ancestor has the branch point', () => {
    const root = timeline('a', [100, 1000, 2000], [50, 700]);
    const size = syntheticSize([root, timeline('b', [1500, 1500, 1800], [900, 900], 'a')]);
    assert.deepEqual([size.totalBytes, size.timelines.get('a'), size.timelines.get('b')], [2000, 1700, 300]);
    assert.equal(syntheticSize([root, timeline('b', [1500, 1500, 1500], [900, 900], 'a')]).totalBytes, 1700);
  });

  it('counts an old branch point as a state of its own, or as WAL from there to the cutoff', () => {
    const old = timeline('b', [500, 500, 600], [300, 300], 'a');
    // A state for the branch (300 + 100) and one at the cutoff 100,000 further on.
    const far = timeline('a', [100, 100_500, 100_600], [200, 700]);
    assert.equal(syntheticSize([far, old]).totalBytes, 300 + 100 + 700 + 100);
    // The WAL from the branch point to the cutoff is less than a second state.
    const near = timeline('a', [100, 550, 800], [5000, 700]);
    assert.equal(syntheticSize([near, old]).totalBytes, 300 + 100 + 50 + 250);
  });

  it('is never more than every timeline by itself, nor less than what must be kept', () => {
    const tree = fc.array(
      fc.record({ at: fc.nat(100), up: fc.nat(5), grow: fc.nat(100), cut: fc.nat(100), size: fc.nat(90) }),
      {
        minLength: 1,
        maxLength: 7,
      },
    );
    fc.assert(
      fc.property(tree, (specs) => {
        const made: SizedTimeline[] = [];
        specs.forEach(({ at, up, grow, cut, size }, i) => {
          const parent = i === 0 ? null : made[up % i]!;
          const begin =
            parent === null ? 10 : parent.beginLsn + Math.floor(((parent.headLsn - parent.beginLsn) * at) / 100);
          const head = begin + grow;
          made.push(
            timeline(
              `${i}`,
              [begin, begin + Math.floor((grow * cut) / 100), head],
              [size, size + 5],
              parent?.id ?? null,
            ),
          );
        });
        const { totalBytes, timelines } = syntheticSize(made);
        const kept = made.reduce((sum, one) => sum + one.headLsn - one.cutoffLsn, 0);
        const alone = made.reduce((sum, one) => {
          const state = Math.min(one.cutoffBytes, one.beginBytes + one.cutoffLsn - one.beginLsn);
          return sum + state + one.headLsn - one.cutoffLsn;
        }, 0);
        assert.ok(totalBytes >= kept && totalBytes <= alone, `${kept} ${totalBytes} ${alone}`);
        assert.equal(
          [...timelines.values()].reduce((sum, bytes) => sum + bytes, 0),
          totalBytes,
        );
      }),
      { numRuns: 500 },
    );
  });
});
