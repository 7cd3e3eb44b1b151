import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import { compareKeys, internPrefix, makeKey } from '../key.js';
import { planCompaction } from './compaction-plan.js';
import { LayerMap } from './layer-map.js';
import { isL0, keyAfter, layerFileName, MAX_KEY, MIN_KEY, parseLayerFileName } from './layer-name.js';
import type { LayerSpan } from './layer-name.js';

const PREFIX = internPrefix(0, 1663, 5, 900, 0);
const k = (block: number) => makeKey(PREFIX, block);

function delta(from: number, to: number, blocks?: readonly [number, number]): LayerSpan {
  const [keyStart, keyEnd] = blocks === undefined ? [MIN_KEY, MAX_KEY] : [k(blocks[0]), k(blocks[1])];
  return { kind: 'delta', keyStart, keyEnd, lsnStart: lsn(from), lsnEnd: lsn(to) };
}

function image(at: number, blocks?: readonly [number, number]): LayerSpan {
  return { ...delta(at, at + 1, blocks), kind: 'image' };
}

/** What `plan` must give, by looking at every layer. */
function slowPlan(layers: readonly LayerSpan[], key: ReturnType<typeof k>, at: number, above: number) {
  const holds = (layer: LayerSpan) => compareKeys(layer.keyStart, key) <= 0 && compareKeys(key, layer.keyEnd) < 0;
  const newestFirst = [...layers].filter(holds).sort((a, b) => b.lsnEnd - a.lsnEnd);
  const found = newestFirst.find((layer) => layer.kind === 'image' && layer.lsnStart <= at && layer.lsnStart > above);
  const floor = found?.lsnStart ?? above;
  const deltas = newestFirst.filter((l) => l.kind === 'delta' && l.lsnStart <= at && l.lsnEnd - 1 > floor);
  return { deltas, image: found ?? null };
}

describe('layer map', () => {
  it('plans as a search through all layers would', () => {
    const runs = fc.array(fc.record({ length: fc.integer({ min: 1, max: 9 }), gap: fc.nat(2), cuts: fc.nat(3) }), {
      maxLength: 8,
    });
    const images = fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.nat(3)), { maxLength: 5 });
    fc.assert(
      fc.property(
        runs,
        images,
        fc.nat(9),
        fc.integer({ min: 0, max: 90 }),
        fc.integer({ min: -1, max: 60 }),
        (rs, is, b, at, above) => {
          const layers: LayerSpan[] = [];
          let from = 0;
          for (const { length, gap, cuts } of rs) {
            from += gap;
            if (cuts === 0) layers.push(delta(from, from + length));
            // Runs with a hole between their layers.
            else for (let c = 0; c < cuts; c++) layers.push(delta(from, from + length, [c * 4, c * 4 + 3]));
            from += length;
          }
          for (const [imageAt, part] of new Map(is))
            layers.push(image(imageAt, part === 0 ? undefined : [part, part + 4]));
          const map = new LayerMap(layers);
          assert.deepEqual(map.plan(k(b), lsn(at), lsn(above)), slowPlan(layers, k(b), at, above));
        },
      ),
    );
  });

  it('refuses layers that overlap in keys and LSNs', () => {
    assert.throws(() => new LayerMap([delta(0, 10), delta(5, 15)]), /overlap/);
    assert.throws(() => new LayerMap([delta(0, 10, [0, 5]), delta(0, 10, [4, 9])]), /overlap/);
    assert.throws(() => new LayerMap([delta(0, 30), delta(10, 20, [0, 5])]), /overlap/);
    new LayerMap([delta(0, 30, [0, 5]), delta(10, 20, [5, 9]), delta(20, 30, [5, 9])]);
    new LayerMap([delta(0, 10), image(5), delta(10, 20)]);
  });

  it('adds and removes without touching the old map', () => {
    const [a, b, c] = [delta(0, 10), delta(10, 20), delta(0, 20, [0, 5])];
    const before = new LayerMap([a, b]);
    const after = before.with({ remove: [a, b], add: [c] });
    assert.deepEqual(before.layers, [a, b]);
    assert.deepEqual(after.layers, [c]);
    assert.equal(after.lsnEnd, 20);
  });

  it('compacts the oldest L0 layers that are published', () => {
    const layers = [delta(20, 30), delta(0, 10), delta(10, 20), delta(30, 40), image(5)];
    const map = new LayerMap(layers);
    const limits = { compactionThreshold: 2, compactionLayersMax: 3 };
    const plan = planCompaction(map, limits, () => true);
    assert.deepEqual(plan, { inputs: [layers[1], layers[2], layers[0]], lsnStart: 0, lsnEnd: 30 });
    assert.deepEqual(planCompaction(map, limits, (layer) => layer.lsnStart < 20)?.inputs, [layers[1], layers[2]]);
    assert.equal(
      planCompaction(map, limits, (layer) => layer.lsnStart !== 10),
      null,
    );
    assert.equal(
      planCompaction(map, { ...limits, compactionThreshold: 5 }, () => true),
      null,
    );
  });
});

describe('layer names', () => {
  it('round-trip', () => {
    for (const span of [delta(1, 0x1_2345_6789), delta(5, 6, [3, 9]), image(77), image(5, [0, 1])]) {
      assert.deepEqual(parseLayerFileName(layerFileName(span, 0xab)), { span, generation: 0xab });
    }
    assert.ok(isL0(delta(1, 2)) && !isL0(image(1)) && !isL0(delta(1, 2, [0, 9])));
  });

  it('are refused when they are none', () => {
    const good = layerFileName(delta(1, 9), 1);
    for (const name of ['', '../x', good.slice(1), `${good}0`, layerFileName(delta(9, 9), 1), good.toLowerCase()]) {
      assert.throws(() => parseLayerFileName(name), { kind: 'corrupt' });
    }
  });

  it('end one key further', () => {
    assert.equal(keyAfter(k(4)), k(5));
    const last = k(0xffff_ffff);
    assert.ok(compareKeys(last, keyAfter(last)) < 0);
    assert.equal(keyAfter(last), makeKey(internPrefix(0, 1663, 5, 900, 1), 0));
    assert.equal(keyAfter(MAX_KEY), MAX_KEY);
  });
});
