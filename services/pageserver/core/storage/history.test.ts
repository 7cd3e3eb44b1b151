/** Plans of image making and garbage collection, leases, and LSNs by time. */
import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import { internPrefix, keyOf, makeKey } from '../key.js';
import type { Key } from '../key.js';
import {
  encodeCount,
  relationBlockKey,
  relationSizeKey,
  SLRU_CLOG,
  slruBlocks,
  slruSizeKey,
  TRACKER_KEY,
} from '../keyspace.js';
import { encodeClogSet } from '../redo/neon-records.js';
import { isCovered, sortedImages } from './coverage.js';
import { planCutoff, planRemoval } from './gc-plan.js';
import { planImages } from './image-plan.js';
import { LayerMap } from './layer-map.js';
import type { LayerSpan } from './layer-name.js';
import { MAX_KEY, MIN_KEY } from './layer-name.js';
import { Leases } from './leases.js';
import { liveKeys, liveSizesOf } from './live-sizes.js';
import { MemoryLayer } from './memory-layer.js';
import { VALUE_RECORD } from './store.js';
import { findLsnOfTime, layerPoints, mergePoints, pointsFrom } from './time-points.js';
import type { TimePoint } from './time-points.js';

const PREFIX = internPrefix(0, 1, 2, 3, 0);
const k = (n: number): Key => makeKey(PREFIX, n);
const KEYS = 8;

function delta(from: number, to: number, start: number, end: number): LayerSpan {
  return { kind: 'delta', keyStart: k(from), keyEnd: k(to), lsnStart: lsn(start), lsnEnd: lsn(end) };
}
function image(from: number, to: number, at: number): LayerSpan {
  return { kind: 'image', keyStart: k(from), keyEnd: k(to), lsnStart: lsn(at), lsnEnd: lsn(at + 1) };
}

/** Runs of deltas one above the other, with images at their ends. */
const histories = fc
  .array(
    fc.record({
      height: fc.integer({ min: 1, max: 6 }),
      cuts: fc.uniqueArray(fc.integer({ min: 1, max: KEYS - 1 }), { maxLength: 2 }),
      holes: fc.boolean(),
      image: fc.option(fc.tuple(fc.nat(KEYS - 1), fc.integer({ min: 1, max: KEYS }))),
    }),
    { minLength: 1, maxLength: 6 },
  )
  .map((runs) => {
    const layers: LayerSpan[] = [image(0, KEYS, 0)];
    let at = 1;
    for (const run of runs) {
      const bounds = [0, ...run.cuts.sort((a, b) => a - b), KEYS];
      for (let i = run.holes ? 1 : 0; i + 1 < bounds.length; i++) {
        layers.push(delta(bounds[i]!, bounds[i + 1]!, at, at + run.height));
      }
      at += run.height;
      if (run.image !== null) {
        const [from, length] = run.image;
        layers.push(image(from, Math.min(KEYS, from + length), at - 1));
      }
    }
    return { layers, end: at - 1 };
  });

/** What a read of one key comes to, found the slow way. */
function readSet(layers: readonly LayerSpan[], key: number, at: number): LayerSpan[] {
  const over = layers.filter((layer) => layer.keyStart <= k(key) && k(key) < layer.keyEnd && layer.lsnStart <= at);
  const images = over.filter((layer) => layer.kind === 'image').sort((a, b) => b.lsnStart - a.lsnStart);
  const floor = images[0]?.lsnStart ?? -1;
  const deltas = over.filter((layer) => layer.kind === 'delta' && layer.lsnEnd - 1 > floor);
  return [...deltas, ...images.slice(0, 1)];
}

describe('garbage collection plan', () => {
  it('removes exactly the layers that no allowed read comes to', () => {
    const input = histories.chain(({ layers, end }) =>
      fc.tuple(fc.constant({ layers, end }), fc.nat(end), fc.array(fc.nat(end), { maxLength: 3 })),
    );
    fc.assert(
      fc.property(input, ([{ layers, end }, cutoff, points]) => {
        const removed = new Set(planRemoval(layers, lsn(cutoff), points as Lsn[]));
        const allowed = [...points, ...Array.from({ length: end - cutoff + 1 }, (_, i) => cutoff + i)];
        const needed = new Set<LayerSpan>();
        for (let key = 0; key < KEYS; key++) {
          for (const at of allowed) for (const layer of readSet(layers, key, at)) needed.add(layer);
        }
        for (const layer of layers) {
          // What may have versions above the cutoff is not looked at.
          const isOld = layer.lsnEnd <= cutoff + 1;
          assert.equal(removed.has(layer), isOld && !needed.has(layer), JSON.stringify(layer));
        }
      }),
      { numRuns: 400 },
    );
  });

  it('has the older of horizon and interval as cutoff, held back by leases and by what is not uploaded', () => {
    const timePoints = [100, 200, 300].map((at) => ({ lsn: lsn(at), timeMs: at * 1000 }));
    const inputs = {
      ...{ lastRecordLsn: lsn(1000), remoteConsistentLsn: lsn(900), minReadableLsn: lsn(50), oldestHeldLsn: null },
      ...{ gcHorizonBytes: 400, pitrIntervalS: 0, nowMs: 400_000, timePoints },
    };
    assert.equal(planCutoff(inputs), 600);
    assert.equal(planCutoff({ ...inputs, gcHorizonBytes: 0 }), 900);
    assert.equal(planCutoff({ ...inputs, gcHorizonBytes: 2000 }), 50);
    assert.equal(planCutoff({ ...inputs, pitrIntervalS: 150 }), 200);
    assert.equal(planCutoff({ ...inputs, pitrIntervalS: 150, gcHorizonBytes: 900 }), 100);
    assert.equal(planCutoff({ ...inputs, pitrIntervalS: 350 }), 50, 'no commit is as old');
    assert.equal(planCutoff({ ...inputs, oldestHeldLsn: lsn(77) }), 77);
    assert.equal(planCutoff({ ...inputs, oldestHeldLsn: lsn(40) }), 50, 'never back');
  });
});

describe('coverage by images', () => {
  it('equals a look at every key', () => {
    const spans = fc.array(fc.tuple(fc.nat(KEYS), fc.nat(KEYS), fc.nat(3)), { maxLength: 6 });
    fc.assert(
      fc.property(spans, fc.nat(KEYS - 1), fc.nat(KEYS), fc.nat(3), (list, from, to, at) => {
        const layers = list.filter(([a, b]) => a < b).map(([a, b, l]) => image(a, b, l));
        const counts = (layer: LayerSpan) => layer.lsnStart <= at;
        const keys = Array.from({ length: Math.max(0, to - from) }, (_, i) => k(from + i));
        const wanted = keys.every((key) =>
          layers.some((layer) => counts(layer) && layer.keyStart <= key && key < layer.keyEnd),
        );
        assert.equal(isCovered({ start: k(from), end: k(to) }, sortedImages(layers), counts), wanted);
      }),
    );
  });

  it('spares scans what is shadowed', () => {
    const layers = [image(0, 8, 0), delta(0, 8, 1, 11), image(0, 4, 10), image(4, 8, 10), delta(2, 3, 11, 20)];
    const map = new LayerMap(layers);
    assert.deepEqual(map.overlapping(k(0), k(8), lsn(15)), layers.slice(2));
    assert.deepEqual(map.overlapping(k(0), k(8), lsn(9)), layers.slice(0, 2));
    assert.ok(map.imagesCover(k(0), k(8), lsn(10)) && !map.imagesCover(k(0), k(9), lsn(10)));
  });
});

describe('image plan', () => {
  const options = { imageCreationThreshold: 2, refused: new Set<Key>(), canRewrite: () => false };
  const base: LayerSpan = { ...image(0, 1, 0), keyStart: MIN_KEY, keyEnd: MAX_KEY };
  const runs = [base, delta(0, 4, 1, 11), delta(4, 8, 1, 11), delta(2, 6, 11, 21)];

  it('finds where enough deltas lie, at the end of the merged ones', () => {
    assert.deepEqual(planImages(runs, options), { lsn: 20, ranges: [{ start: k(2), end: k(6) }] });
    const whole = planImages(runs, { ...options, imageCreationThreshold: 1 });
    assert.deepEqual(whole?.ranges, [{ start: k(0), end: k(8) }]);
    assert.equal(planImages(runs, { ...options, imageCreationThreshold: 3 }), null);
    assert.equal(planImages([...runs, image(2, 6, 20)], options), null, 'it is there');
    const level0 = { ...delta(0, 1, 21, 31), keyStart: MIN_KEY, keyEnd: MAX_KEY };
    assert.equal(planImages([...runs, level0], options)?.lsn, 20);
    assert.equal(planImages(runs.slice(0, 3), { ...options, imageCreationThreshold: 1 })?.lsn, 10);
    assert.equal(planImages([...runs.slice(0, 3), image(0, 1, 15)], { ...options, imageCreationThreshold: 1 }), null);
  });

  it('takes small older images along as a whole, but no newer ones', () => {
    const layers = [...runs, image(5, 7, 10)];
    const plan = planImages(layers, { ...options, canRewrite: (layer) => layer !== base });
    assert.deepEqual(plan?.ranges, [{ start: k(2), end: k(5) }], 'one delta above the image');
    const all = planImages(runs, { ...options, canRewrite: () => true });
    assert.deepEqual(all?.ranges, [{ start: MIN_KEY, end: MAX_KEY }]);
    const rest = planImages([...runs, image(2, 4, 20)], { ...options, canRewrite: () => true });
    assert.deepEqual(rest?.ranges, [
      { start: MIN_KEY, end: k(2) },
      { start: k(4), end: MAX_KEY },
    ]);
  });

  it('leaves refused keys alone when they are alone', () => {
    const layers = [...runs, image(2, 3, 20), image(4, 6, 20)];
    assert.deepEqual(planImages(layers, options)?.ranges, [{ start: k(3), end: k(4) }]);
    assert.equal(planImages(layers, { ...options, refused: new Set([k(3)]) }), null);
  });
});

describe('live sizes', () => {
  it('say which pages are part of something', () => {
    const rel = { spc: 1663, db: 5, rel: 700, fork: 0 };
    const sizes = liveSizesOf(
      [{ key: relationSizeKey(rel), value: encodeCount(2) }],
      [{ key: slruSizeKey(SLRU_CLOG, 3), value: encodeCount(1) }],
    );
    const isLive = liveKeys(structuredClone(sizes));
    const keys = [0, 1, 2].map((block) => isLive(relationBlockKey(rel, block)));
    assert.deepEqual(keys, [true, true, false]);
    assert.equal(isLive(relationBlockKey({ ...rel, fork: 1 }, 0)), false);
    assert.deepEqual(
      [0, 1].map((block) => isLive(makeKey(slruBlocks(SLRU_CLOG, 3), block))),
      [true, false],
    );
    assert.equal(isLive(makeKey(slruBlocks(SLRU_CLOG, 4), 0)), false);
    assert.ok(isLive(TRACKER_KEY));
    assert.ok(liveKeys(null)(relationBlockKey(rel, 9)));
  });
});

describe('leases', () => {
  it('end by themselves, are renewed and never shortened; holds end when told', () => {
    const leases = new Leases();
    assert.equal(leases.oldest(0), null);
    assert.equal(leases.grant(lsn(50), 100, 1000), 1100);
    assert.equal(leases.grant(lsn(50), 10, 1000), 1100);
    leases.grant(lsn(70), 500, 1000);
    const release = leases.hold(lsn(60));
    const again = leases.hold(lsn(60));
    assert.equal(leases.oldest(1099), 50);
    assert.equal(leases.oldest(1100), 60);
    release();
    release();
    assert.equal(leases.oldest(1100), 60);
    again();
    assert.equal(leases.oldest(1100), 70);
    assert.equal(leases.oldest(1500), null);
    assert.equal(leases.count, 0);
  });
});

describe('time points', () => {
  const point = (at: number, timeMs: number): TimePoint => ({ lsn: lsn(at), timeMs });

  it('keep the last commit of each period, and are at most a period off', () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 0, max: 300_000 })), {
      minLength: 1,
      maxLength: 120,
    });
    fc.assert(
      fc.property(steps, fc.nat(120), (list, splitAt) => {
        let at = 0;
        let timeMs = 1_700_000_000_000;
        const all = list.map(([bytes, ms]) => point((at += bytes), (timeMs += ms)));
        const points = mergePoints(mergePoints([], all.slice(0, splitAt)), all.slice(splitAt));
        assert.equal(points.at(-1)?.timeMs, all.at(-1)?.timeMs);
        for (const [i, { lsn: pointLsn }] of points.entries()) assert.ok(i === 0 || pointLsn > points[i - 1]!.lsn);
        const limits = { minReadableLsn: lsn(0), lastRecordLsn: lsn(at) };
        for (const { timeMs: asked } of all) {
          const found = findLsnOfTime(points, asked, limits);
          const age = timeMs - asked;
          const periodMs = age < 500_000 ? 1000 : age < 86_000_000 ? 60_000 : 600_000;
          assert.ok(all.every((commit) => commit.lsn > found.lsn || commit.timeMs <= asked || found.kind === 'future'));
          const missed = all.filter((commit) => commit.lsn > found.lsn && commit.timeMs < asked - periodMs);
          assert.deepEqual(found.kind === 'past' ? [] : missed, []);
        }
      }),
    );
  });

  it('name the last of several commits at one time', () => {
    const points = mergePoints(mergePoints([], [point(1, 5000), point(2, 5000)]), [point(3, 5000), point(4, 9000)]);
    assert.deepEqual(points, [point(3, 5000), point(4, 9000)]);
  });

  it('answer before, between, after, and without commits', () => {
    const points = [point(100, 5000), point(200, 9000)];
    const limits = { minReadableLsn: lsn(50), lastRecordLsn: lsn(300) };
    assert.deepEqual(findLsnOfTime([], 1, limits), { kind: 'nodata', lsn: 50 });
    assert.deepEqual(findLsnOfTime(points, 4999, limits), { kind: 'past', lsn: 50 });
    assert.deepEqual(findLsnOfTime(points, 8999, limits), { kind: 'present', lsn: 100 });
    assert.deepEqual(findLsnOfTime(points, 9000, limits), { kind: 'future', lsn: 300 });
    assert.deepEqual(findLsnOfTime(points, 8999, { ...limits, minReadableLsn: lsn(101) }), { kind: 'past', lsn: 101 });
    assert.deepEqual(pointsFrom(points, lsn(99)), points);
    assert.deepEqual(pointsFrom(points, lsn(199)), points);
    assert.deepEqual(pointsFrom(points, lsn(250)), points.slice(1));
  });

  it('come from commits in pg_xact, not from aborts or other pages', () => {
    const layer = new MemoryLayer(lsn(1));
    const clog = makeKey(slruBlocks(SLRU_CLOG, 0), 0);
    const secondUs = 1_000_000;
    layer.put(clog, lsn(10), VALUE_RECORD, encodeClogSet([700], true, 5 * secondUs));
    layer.put(clog, lsn(20), VALUE_RECORD, encodeClogSet([701], false, 8 * secondUs));
    layer.put(k(1), lsn(25), VALUE_RECORD, encodeClogSet([701], true, 9 * secondUs));
    layer.put(clog, lsn(30), VALUE_RECORD, encodeClogSet([702], true, 4 * secondUs));
    layer.put(
      makeKey(slruBlocks(SLRU_CLOG, 1), 0),
      lsn(40),
      VALUE_RECORD,
      encodeClogSet([9_000_000], true, 7 * secondUs),
    );
    const epochMs = Date.UTC(2000, 0, 1);
    assert.deepEqual(layerPoints(layer), [point(10, epochMs + 5000), point(40, epochMs + 7000)]);
  });
});

describe('keys at the end', () => {
  it('of the key space are covered like others', () => {
    const last = keyOf({ field1: 0xff, field2: 1, field3: 1, field4: 1, field5: 1, field6: 1 });
    const images = [{ ...image(0, 1, 5), keyStart: MIN_KEY, keyEnd: MAX_KEY }];
    assert.ok(isCovered({ start: last, end: MAX_KEY }, images, () => true));
  });
});
