import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import { internPrefix, makeKey } from '../key.js';
import { planBottomImages, planTrims, retainedPoints } from './bottom-plan.js';
import type { SizedLayer } from './bottom-plan.js';
import { MAX_KEY, MIN_KEY } from './layer-name.js';
import { markRetained } from './retained.js';
import { VALUE_IMAGE, VALUE_INIT, VALUE_RECORD, VALUE_TOMBSTONE } from './store.js';

interface Version {
  readonly lsn: Lsn;
  readonly kind: typeof VALUE_IMAGE | typeof VALUE_INIT | typeof VALUE_RECORD | typeof VALUE_TOMBSTONE;
}

/** What a read at `at` comes to: back from the newest, down to a base or to the image layer. */
function readAt(versions: readonly Version[], at: number, imageLsns: readonly number[]): Version[] {
  const floor = Math.max(-1, ...imageLsns.filter((image) => image <= at));
  const found: Version[] = [];
  for (const version of versions.filter((candidate) => candidate.lsn <= at && candidate.lsn > floor).reverse()) {
    found.push(version);
    if (version.kind !== VALUE_RECORD) break;
  }
  return found;
}

describe('versions that stay', () => {
  it('are exactly those that an allowed read comes to', () => {
    const kinds = fc.constantFrom(VALUE_IMAGE, VALUE_INIT, VALUE_RECORD, VALUE_RECORD, VALUE_RECORD, VALUE_TOMBSTONE);
    const history = fc.array(fc.record({ lsn: fc.nat(30).map(lsn), kind: kinds }), { maxLength: 25 });
    const points = fc.array(fc.nat(30), { maxLength: 3 });
    fc.assert(
      fc.property(
        history,
        points,
        fc.nat(30),
        fc.array(fc.nat(30), { maxLength: 3 }),
        (all, branches, cutoff, images) => {
          const versions = all.sort((a, b) => a.lsn - b.lsn);
          // Image layers above the cutoff are not told to the job: what they hide may stay.
          const known = images.filter((image) => image <= cutoff);
          const retained = retainedPoints(lsn(cutoff), branches.map(lsn));
          const floors = retained.map((point) => Math.max(-1, ...known.filter((image) => image <= point)));
          const keep: boolean[] = [];
          markRetained(versions, { points: retained, floors }, keep);
          const needed = new Set<Version>();
          for (let at = 0; at <= 31; at++) {
            if (at < cutoff && !branches.includes(at)) continue;
            for (const version of readAt(versions, at, known)) needed.add(version);
          }
          versions.forEach((version, i) => {
            if (needed.has(version)) assert.ok(keep[i], 'a version that a read needs goes away');
            else if (version.lsn <= cutoff) assert.ok(!keep[i], 'a version that nobody reads stays');
          });
        },
      ),
      { numRuns: 1000 },
    );
  });
});

describe('plan for old history', () => {
  const k = (n: number) => makeKey(internPrefix(0, 1, 2, 3, 0), n);
  const layer = (
    kind: 'delta' | 'image',
    keys: [number, number],
    lsns: [number, number],
    sizeBytes = 100,
  ): SizedLayer => ({
    kind,
    keyStart: k(keys[0]),
    keyEnd: k(keys[1]),
    lsnStart: lsn(lsns[0]),
    lsnEnd: lsn(lsns[1]),
    metadata: { sizeBytes },
  });
  const options = { cutoff: lsn(50), bytesMin: 100, refused: new Set<ReturnType<typeof k>>(), canRewrite: () => true };

  it('makes images over deltas below the cutoff once they outweigh the images there', () => {
    const image = layer('image', [0, 9], [1, 2], 150);
    const one = layer('delta', [0, 5], [2, 30]);
    assert.equal(planBottomImages([image, one], options), null, 'too few');
    const two = layer('delta', [2, 7], [30, 51]);
    const plan = planBottomImages([image, one, two], options);
    // Widened over the image layer, which would stay whole otherwise.
    assert.deepEqual(plan, { lsn: 50, ranges: [{ start: k(0), end: k(9) }] });
    const narrow = planBottomImages([image, one, two], { ...options, canRewrite: () => false });
    assert.deepEqual(narrow, { lsn: 50, ranges: [{ start: k(0), end: k(7) }] });
  });

  it('counts a layer that reaches over the cutoff by its part below, and none that is shadowed or L0', () => {
    const over = layer('delta', [0, 5], [41, 61], 400);
    assert.notEqual(planBottomImages([over], { ...options, bytesMin: 200 }), null);
    assert.equal(planBottomImages([over], { ...options, bytesMin: 201 }), null);
    const shadowed = [layer('delta', [0, 5], [2, 30], 900), layer('image', [0, 5], [40, 41])];
    assert.equal(planBottomImages(shadowed, { ...options, bytesMin: 0 }), null);
    const level0 = { ...layer('delta', [0, 5], [2, 30], 900), keyStart: MIN_KEY, keyEnd: MAX_KEY };
    assert.equal(planBottomImages([level0], options), null);
    assert.deepEqual(planTrims([level0, over, layer('delta', [0, 5], [60, 70])], lsn(50)), [over]);
  });
});
