import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import * as slru from './slru.js';

describe('SLRU arithmetic', () => {
  it('keeps transaction states apart', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(32767), fc.nat(3))), (changes) => {
        const page = new Uint8Array(8192);
        const expected = new Map<number, number>();
        for (const [xid, status] of changes) {
          slru.setXactStatus(page, xid, status);
          expected.set(xid, status);
        }
        for (const [xid, status] of expected) {
          assert.equal(slru.getXactStatus(page, xid), status);
          const neighbour = xid ^ 1;
          assert.equal(slru.getXactStatus(page, neighbour), expected.get(neighbour) ?? 0);
        }
      }),
    );
  });

  it('places entries as the server does', () => {
    assert.deepEqual([slru.clogPage(32768), slru.clogByte(32769), slru.clogShift(32769)], [1, 0, 2]);
    assert.deepEqual([slru.clogPage(0xffff_ffff), slru.slruSegment(131071)], [131071, 4095]);
    assert.deepEqual([slru.multiOffsetPage(2049), slru.multiOffsetByte(2049)], [1, 4]);
    assert.deepEqual([slru.multiMemberPage(1635), slru.multiMemberPage(1636)], [0, 1]);
    assert.deepEqual([slru.multiMemberFlagByte(5), slru.multiMemberXidByte(5)], [21, 28]);
    assert.deepEqual([slru.multiMemberFlagByte(1636), slru.multiMemberXidByte(1636)], [0, 4]);
    assert.deepEqual([slru.commitTsPage(819), slru.commitTsByte(820)], [1, 10]);
    assert.equal(slru.slruSegmentName(0x1a), '001A');
    assert.equal(slru.slruSegmentName(0x14078), '14078');
  });

  it('gives every member its own bytes within the page', () => {
    const used = new Uint8Array(8192);
    for (let offset = 1636; offset < 2 * 1636; offset++) {
      const flag = slru.multiMemberFlagByte(offset);
      const xid = slru.multiMemberXidByte(offset);
      for (const at of [flag, xid, xid + 1, xid + 2, xid + 3]) used[at]! += 1;
    }
    assert.equal(
      used.reduce((sum, count) => sum + count, 0),
      1636 * 5,
    );
    assert.ok(used.every((count) => count <= 1));
  });

  it('compares around the circle', () => {
    assert.ok(slru.xidFollows(3, 0xffff_fff0));
    assert.ok(!slru.xidFollows(0xffff_fff0, 3));
    assert.ok(slru.xidFollows(100, 2));
    assert.ok(!slru.xidFollows(2, 0xffff_fff0));
    assert.ok(slru.multiFollows(0, 0xffff_ffff));
  });
});
