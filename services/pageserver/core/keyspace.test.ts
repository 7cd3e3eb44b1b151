import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { compareKeys, formatKey, keyOf, readKey, writeKey } from './key.js';
import * as keys from './keyspace.js';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const rel = fc.record({ spc: u32, db: u32, rel: u32, fork: fc.integer({ min: 0, max: 3 }) }, { noNullPrototype: true });

describe('keyspace', () => {
  it('is laid out as drawn', () => {
    const table = { spc: 1663, db: 5, rel: 0x4000, fork: 1 };
    assert.equal(formatKey(keys.relationBlockKey(table, 7)), '000000067F00000005000040000100000007');
    assert.equal(formatKey(keys.relationSizeKey(table)), '600000067F00000005000040000100000000');
    assert.equal(formatKey(keys.databaseKey(table)), '610000067F00000005000000000000000000');
    assert.equal(formatKey(keys.slruSizeKey(2, 9)), '620000000200000000000000090000000000');
    assert.equal(formatKey(keys.twoPhaseKey(0x2ff)), '6300000000000000000000000000000002FF');
    assert.equal(formatKey(keys.TRACKER_KEY), '640000000000000000000000000000000001');
  });

  it('round-trips', () => {
    fc.assert(
      fc.property(rel, u32, (tag, number) => {
        assert.deepEqual(keys.parseRelationSizeKey(keys.relationSizeKey(tag)), tag);
        assert.deepEqual(keys.parseDatabaseKey(keys.databaseKey(tag)), { spc: tag.spc, db: tag.db });
        assert.equal(keys.parseTwoPhaseKey(keys.twoPhaseKey(number)), number);
        assert.deepEqual(keys.parsePageKey(keys.relationBlockKey(tag, number)), {
          kind: 'relation',
          rel: tag,
          block: number,
        });
        assert.equal(keys.decodeCount(keys.encodeCount(number)), number);
        const bytes = new Uint8Array(18);
        writeKey(keys.relationBlockKey(tag, number), bytes, 0);
        assert.equal(readKey(bytes, 0), keys.relationBlockKey(tag, number));
      }),
    );
  });

  it('has the forks of a database, and no others, in its range', () => {
    fc.assert(
      fc.property(rel, rel, (a, b) => {
        const range = keys.relationSizeRange(a);
        const key = keys.relationSizeKey(b);
        const inside = compareKeys(key, range.start) >= 0 && compareKeys(key, range.end) < 0;
        assert.equal(inside, a.spc === b.spc && a.db === b.db);
      }),
      {
        examples: [
          [
            { spc: 1, db: 0xffff_ffff, rel: 0xffff_ffff, fork: 3 },
            { spc: 1, db: 0xffff_ffff, rel: 5, fork: 0 },
          ],
        ],
      },
    );
  });

  it('keeps pages apart from metadata', () => {
    const table = { spc: 1, db: 2, rel: 3, fork: 0 };
    assert.ok(keys.isPageKey(keys.relationBlockKey(table, 0)));
    for (const key of [
      keys.relationSizeKey(table),
      keys.databaseKey(table),
      keys.CONTROL_FILE_KEY,
      keys.NEXT_XID_KEY,
    ]) {
      assert.ok(!keys.isPageKey(key));
      assert.equal(keys.parsePageKey(key), null);
    }
  });

  it('refuses keys and values of another kind', () => {
    const size = keys.relationSizeKey({ spc: 1, db: 2, rel: 3, fork: 0 });
    assert.throws(() => keys.parseDatabaseKey(size), /field 1 96, not 97/);
    assert.throws(() =>
      keys.parseSlruSizeKey(keyOf({ field1: 0x62, field2: 9, field3: 0, field4: 0, field5: 0, field6: 0 })),
    );
    assert.throws(() => keys.decodeCount(new Uint8Array(5)));
    assert.throws(() => keys.decodeNextXid(new Uint8Array(4)));
  });
});
