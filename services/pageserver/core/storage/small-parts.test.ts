/** Varints, filter, merge, recency order, page cache, index codec. */
import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { compareKeys, internPrefix, makeKey } from '../key.js';
import type { Key } from '../key.js';
import { ByteLru } from './byte-lru.js';
import type { LruEntry } from './byte-lru.js';
import { decodeIndexPart, encodeIndexPart } from './index-part.js';
import { buildFilter, filterMayContain, keyHash } from './key-filter.js';
import { layerFileName, MAX_KEY, MIN_KEY } from './layer-name.js';
import { mergeVersions } from './merge.js';
import type { VersionCursor } from './merge.js';
import { PageCache, TimelinePages } from './page-cache.js';
import type { ValueKind } from './store.js';
import { VarintReader, writeVarint } from './varint.js';

const PREFIX = internPrefix(0, 1663, 5, 1234, 0);

describe('varint', () => {
  it('round-trips up to 2^53', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.maxSafeNat(), fc.nat(300))), (numbers) => {
        const bytes = new Uint8Array(numbers.length * 8);
        let end = 0;
        for (const n of numbers) end = writeVarint(n, bytes, end);
        const reader = new VarintReader(bytes.subarray(0, end));
        assert.deepEqual(
          numbers.map(() => reader.next()),
          numbers,
        );
        assert.throws(() => reader.next(), /cut off/);
      }),
    );
    assert.throws(() => new VarintReader(new Uint8Array(9).fill(0xff)).next(), /too long/);
  });
});

describe('key filter', () => {
  it('has every key that went in and few others', () => {
    const inside = [...Array(2000).keys()].map((block) => makeKey(PREFIX, block * 3));
    const filter = buildFilter(inside.map(keyHash));
    assert.ok(inside.every((key) => filterMayContain(filter, key)));
    const outside = [...Array(20_000).keys()].map((block) => makeKey(PREFIX, 10_000 + block));
    const wrong = outside.filter((key) => filterMayContain(filter, key)).length;
    assert.ok(wrong < 600, `${wrong} false answers of 20000`);
  });
});

class ListCursor implements VersionCursor {
  key = 0 as Key;
  lsn = 0 as Lsn;
  kind = 1 as ValueKind;
  value: Uint8Array = new Uint8Array(0);
  private at = 0;
  private readonly versions: readonly (readonly [Key, Lsn])[];

  constructor(versions: readonly (readonly [Key, Lsn])[], name: number) {
    this.versions = versions;
    this.value = Uint8Array.of(name);
  }

  next(): boolean {
    const version = this.versions[this.at++];
    if (version === undefined) return false;
    [this.key, this.lsn] = version;
    return true;
  }
}

describe('merge', () => {
  it('orders by key, LSN, stream', () => {
    const list = fc
      .array(fc.tuple(fc.nat(4), fc.nat(5)), { maxLength: 12 })
      .map((pairs) => pairs.map(([block, at]) => [makeKey(PREFIX, block), lsn(at)] as const))
      .map((versions) => versions.sort((a, b) => compareKeys(a[0], b[0]) || a[1] - b[1]));
    fc.assert(
      fc.property(fc.array(list, { maxLength: 6 }), (lists) => {
        const found: unknown[] = [];
        const cursors = lists.map((versions, i) => new ListCursor(versions, i));
        mergeVersions(cursors, ({ key, lsn: at, value }) => found.push([key, at, value[0]]));
        const wanted = lists
          .flatMap((versions, i) => versions.map(([key, at]) => [key, at, i] as const))
          .sort((a, b) => compareKeys(a[0], b[0]) || a[1] - b[1] || a[2] - b[2]);
        assert.deepEqual(found, wanted);
      }),
    );
  });
});

describe('byte lru', () => {
  it('keeps the newest entries that fit', () => {
    interface Entry extends LruEntry {
      readonly name: number;
    }
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 12 }))), (uses) => {
        const entries = new Map<number, Entry>();
        const lru = new ByteLru<Entry>(20, (entry) => entries.delete(entry.name));
        let model: { name: number; sizeBytes: number }[] = [];
        for (const [name, sizeBytes] of uses) {
          const known = entries.get(name);
          if (known !== undefined) lru.touch(known);
          else {
            const entry = { name, sizeBytes, newer: null, older: null };
            entries.set(name, entry);
            lru.add(entry);
          }
          const moved = model.find((entry) => entry.name === name) ?? { name, sizeBytes };
          model = [moved, ...model.filter((entry) => entry !== moved)];
          while (model.reduce((sum, entry) => sum + entry.sizeBytes, 0) > 20) model.pop();
          assert.deepEqual([...entries.keys()].sort(), model.map((entry) => entry.name).sort());
          assert.equal(lru.count, model.length);
        }
      }),
    );
  });
});

describe('page cache', () => {
  it('answers with the newest page at or below an LSN', () => {
    const pages = new TimelinePages(new PageCache(1 << 20));
    const key = makeKey(PREFIX, 1);
    const page = (n: number) => new Uint8Array(8192).fill(n);
    pages.add(key, { lsn: lsn(20), upTo: lsn(30) }, page(2));
    pages.add(key, { lsn: lsn(10), upTo: lsn(19) }, page(1));
    pages.add(key, { lsn: lsn(20), upTo: lsn(35) }, page(9));
    assert.equal(pages.find(key, lsn(9)), null);
    assert.equal(pages.find(key, lsn(15))?.page[0], 1);
    assert.equal(pages.find(key, lsn(99))?.page[0], 2);
    assert.equal(pages.find(key, lsn(99))?.upTo, 35);
  });

  it('is bounded over all timelines and gives everything back', () => {
    const cache = new PageCache(50_000);
    const [a, b] = [new TimelinePages(cache), new TimelinePages(cache)];
    for (let i = 0; i < 100; i++) {
      (i % 2 === 0 ? a : b).add(makeKey(PREFIX, i), { lsn: lsn(1), upTo: lsn(1) }, new Uint8Array(8192));
      assert.ok(cache.lru.usedBytes <= 50_000);
    }
    assert.equal(a.find(makeKey(PREFIX, 0), lsn(5)), null);
    assert.notEqual(b.find(makeKey(PREFIX, 99), lsn(5)), null);
    for (let i = 0; i < 9; i++) a.add(makeKey(PREFIX, 7), { lsn: lsn(i + 1), upTo: lsn(i + 1) }, new Uint8Array(8192));
    a.clear();
    b.clear();
    assert.equal(cache.lru.usedBytes, 0);
    assert.equal(cache.lru.count, 0);
  });
});

describe('index part', () => {
  const index = {
    ttid: { tenantId: parseTenantId('01'.repeat(16)), timelineId: parseTimelineId('02'.repeat(16)) },
    pgMajor: 15,
    systemId: 0xffff_ffff_ffff_fffen,
    segSize: 1 << 24,
    initdbLsn: lsn(0x1_5000_0000),
    ancestor: { timelineId: parseTimelineId('03'.repeat(16)), lsn: lsn(0x2_0000_0010) },
    diskConsistentLsn: lsn(0x2_0000_0100),
    prevRecordLsn: lsn(0x2_0000_00c0),
    minReadableLsn: lsn(0x1_5000_0000),
    deletedAtMs: null,
    timePoints: [
      { lsn: lsn(0x1_5000_0000), timeMs: 1_700_000_000_000 },
      { lsn: lsn(0x2_0000_0100), timeMs: 1_700_000_000_001 },
    ],
    layers: new Map([
      [
        layerFileName({ kind: 'delta', keyStart: MIN_KEY, keyEnd: MAX_KEY, lsnStart: lsn(1), lsnEnd: lsn(2) }, 3),
        { sizeBytes: 12, crc: 0xffff_ffff },
      ],
    ]),
  };

  it('round-trips', () => {
    assert.deepEqual(decodeIndexPart(encodeIndexPart(index), 'x'), index);
    const root = { ...index, ancestor: null, deletedAtMs: 5, layers: new Map() };
    assert.deepEqual(decodeIndexPart(encodeIndexPart(root), 'x'), root);
  });

  it('answers damage with `corrupt`, naming the object', () => {
    const bytes = encodeIndexPart(index);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Uint8Array.from(bytes);
      damaged[at]! ^= 1;
      try {
        assert.deepEqual(decodeIndexPart(damaged, 'the/key'), index);
      } catch (error) {
        assert.match(String(error), /the\/key/);
        assert.equal((error as { kind: string }).kind, 'corrupt');
      }
    }
  });
});
