import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { compareKeys, internPrefix, makeKey } from '../key.js';
import type { Key } from '../key.js';
import { MemoryLayer, NO_VERSION } from './memory-layer.js';
import type { ValueKind } from './store.js';

const PREFIXES = [0x60, 0, 1].map((field1) => internPrefix(field1, 1663, 5, 77, 0));

interface Version {
  readonly key: Key;
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

const history = fc
  .array(
    fc.record({
      prefix: fc.constantFrom(...PREFIXES),
      block: fc.oneof(fc.nat(5), fc.constantFrom(0x7fff_ffff, 0x8000_0000, 0xffff_ffff)),
      step: fc.nat(3),
      kind: fc.constantFrom<ValueKind>(1, 2, 3, 4),
      value: fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        fc.constantFrom(0, 8192, 700_000).map((n) => new Uint8Array(n).fill(3)),
      ),
    }),
    { maxLength: 40 },
  )
  .map((puts) => {
    let at = 100;
    return puts.map(({ prefix, block, step, kind, value }): Version => {
      at += step;
      return { key: makeKey(prefix, block), lsn: lsn(at), kind, value };
    });
  });

function fill(versions: readonly Version[]): MemoryLayer {
  const layer = new MemoryLayer(lsn(100));
  for (const { key, lsn: at, kind, value } of versions) layer.put(key, at, kind, value);
  return layer;
}

function chain(layer: MemoryLayer, key: Key, at: Lsn): unknown[] {
  const found: unknown[] = [];
  for (let p = layer.find(key, at); p !== NO_VERSION; p = layer.before(p)) {
    found.push([layer.lsnAt(p), layer.kindAt(p), Buffer.from(layer.valueAt(p))]);
  }
  return found;
}

function wantedChain(versions: readonly Version[], key: Key, at: Lsn): unknown[] {
  return versions
    .filter((version) => version.key === key && version.lsn <= at)
    .reverse()
    .map((version) => [version.lsn, version.kind, Buffer.from(version.value)]);
}

describe('memory layer', () => {
  it('finds versions newest first, and all of them sorted', () => {
    fc.assert(
      fc.property(history, fc.integer({ min: 95, max: 230 }), (versions, at) => {
        const layer = fill(versions);
        const keys = [...new Set(versions.map((version) => version.key))].sort(compareKeys);
        assert.deepEqual(layer.sortedKeys(), keys);
        assert.equal(layer.keyCount, keys.length);
        assert.equal(layer.versionCount, versions.length);
        const positions: number[] = [];
        for (const key of keys) {
          assert.deepEqual(chain(layer, key, lsn(at)), wantedChain(versions, key, lsn(at)));
          layer.history(key, positions);
          assert.deepEqual(
            positions.map((p) => layer.lsnAt(p)),
            versions.filter((version) => version.key === key).map((version) => version.lsn),
          );
        }
      }),
      { numRuns: 100 },
    );
  });

  it('discards an unfinished batch as if it had never come', () => {
    fc.assert(
      fc.property(history, history, fc.integer({ min: 99, max: 230 }), (versions, more, above) => {
        const layer = fill(versions);
        layer.discardAbove(lsn(above));
        const kept = versions.filter((version) => version.lsn <= above);
        for (const { key } of versions) assert.deepEqual(chain(layer, key, MAX_LSN), wantedChain(kept, key, MAX_LSN));
        assert.equal(layer.versionCount, kept.length);
        assert.deepEqual(layer.sortedKeys(), [...new Set(kept.map((version) => version.key))].sort(compareKeys));
        for (const { key, lsn: at, kind, value } of more) layer.put(key, lsn(at + 500), kind, value);
        assert.equal(layer.versionCount, kept.length + more.length);
      }),
      { numRuns: 50 },
    );
  });

  it('scans a range at an LSN', () => {
    fc.assert(
      fc.property(history, fc.nat(7), fc.integer({ min: 95, max: 230 }), (versions, from, at) => {
        const [start, end] = [makeKey(PREFIXES[1]!, from), makeKey(PREFIXES[2]!, 0x8000_0000)];
        const found: [Key, Lsn][] = [];
        const layer = fill(versions);
        layer.scan(start, end, lsn(at), (key, p) => found.push([key, layer.lsnAt(p)]));
        const wanted = new Map<Key, Lsn>();
        for (const { key, lsn: versionLsn } of versions) {
          if (compareKeys(key, start) >= 0 && compareKeys(key, end) < 0 && versionLsn <= at)
            wanted.set(key, versionLsn);
        }
        assert.deepEqual(new Map(found), wanted);
      }),
      { numRuns: 100 },
    );
  });

  it('takes values larger than a chunk', () => {
    const layer = new MemoryLayer(lsn(1));
    const key = makeKey(PREFIXES[0]!, 1);
    const large = new Uint8Array(3 << 20).fill(5);
    layer.put(key, lsn(1), 1, large);
    layer.put(key, lsn(2), 1, new Uint8Array(10).fill(6));
    layer.put(key, lsn(3), 1, large);
    assert.deepEqual(chain(layer, key, MAX_LSN), [
      [3, 1, Buffer.from(large)],
      [2, 1, Buffer.alloc(10, 6)],
      [1, 1, Buffer.from(large)],
    ]);
    assert.ok(layer.sizeBytes > 6 << 20);
  });

  it('refuses LSNs that go back, and any put once frozen', () => {
    const layer = new MemoryLayer(lsn(100));
    const key = makeKey(PREFIXES[0]!, 1);
    assert.throws(() => layer.put(key, lsn(99), 1, new Uint8Array(0)), /0\/64/);
    layer.put(key, lsn(200), 1, new Uint8Array(0));
    assert.throws(() => layer.put(key, lsn(199), 1, new Uint8Array(0)));
    assert.throws(() => layer.freeze(lsn(200), lsn(0)));
    layer.freeze(lsn(201), lsn(190));
    assert.throws(() => layer.put(key, lsn(300), 1, new Uint8Array(0)), /frozen/);
  });
});
