import assert from 'node:assert/strict';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import {
  clogPage,
  getXactStatus,
  MULTIXACT_MEMBERS_PER_PAGE,
  multiMemberFlagByte,
  multiMemberPage,
  multiMemberXidByte,
  multiOffsetByte,
  multiOffsetPage,
  XACT_ABORTED,
  XACT_COMMITTED,
} from '#shared/postgres/slru.js';
import {
  clogCommitTime,
  encodeVmClear,
  encodeVmTruncate,
  encodeZeroPage,
  VM_ALL_FROZEN,
  VM_HEAP_BLOCKS_PER_PAGE,
  VM_VALID_BITS,
} from './neon-records.js';
import { clogChanges, multixactMemberChanges, multixactOffsetChanges, type PageChange } from './page-effects.js';
import { reconstructPage } from './redo.js';

const xid = fc.integer({ min: 3, max: 0xffff_ffff });

function applyAll(pages: Map<number, Uint8Array>, changes: readonly PageChange[]): void {
  for (const { pageNumber, value } of changes) {
    pages.set(pageNumber, reconstructPage(pages.get(pageNumber) ?? null, [{ endLsn: lsn(8), value }]));
  }
}

describe('changes of pages without a block reference', () => {
  it('sets the status of transactions and of no others', () => {
    const ends = fc.array(
      fc.record({ xids: fc.uniqueArray(xid, { minLength: 1, maxLength: 30 }), committed: fc.boolean() }),
    );
    fc.assert(
      fc.property(ends, (list) => {
        const pages = new Map<number, Uint8Array>();
        const expected = new Map<number, number>();
        for (const { xids, committed } of list) {
          const changes = clogChanges(xids, committed, 123_456_789_012);
          assert.equal(clogCommitTime(changes[0]!.value), committed ? 123_456_789_012 : null);
          applyAll(pages, changes);
          for (const one of xids) expected.set(one, committed ? XACT_COMMITTED : XACT_ABORTED);
        }
        for (const [one, status] of expected) {
          assert.equal(getXactStatus(pages.get(clogPage(one))!, one), status);
          const neighbour = (one + 1) >>> 0;
          const page = pages.get(clogPage(neighbour));
          if (page !== undefined) assert.equal(getXactStatus(page, neighbour), expected.get(neighbour) ?? 0);
        }
      }),
    );
  });

  it('writes a multixact: its offset, the next offset, its members, over page and number wrap', () => {
    const multi = fc.oneof(fc.integer({ min: 1, max: 0xffff_ffff }), fc.constantFrom(2047, 2048, 0xffff_ffff));
    const offset = fc.oneof(fc.integer({ min: 1, max: 0xffff_ffff }), fc.constantFrom(0xffff_fffe, 0xffff_fff0));
    const members = fc.array(fc.record({ xid, status: fc.nat(5) }), { minLength: 1, maxLength: 3000 });
    fc.assert(
      fc.property(multi, offset, members, (id, first, list) => {
        const offsets = new Map<number, Uint8Array>();
        applyAll(offsets, multixactOffsetChanges(id, first, list.length));
        const readOffset = (of: number): number =>
          new DataView(offsets.get(multiOffsetPage(of))!.buffer).getUint32(multiOffsetByte(of), true);
        assert.equal(readOffset(id), first);
        assert.equal(readOffset(id === 0xffff_ffff ? 1 : id + 1), (first + list.length) % 2 ** 32 || 1);
        const pages = new Map<number, Uint8Array>();
        applyAll(pages, multixactMemberChanges(first, list));
        list.forEach((member, i) => {
          const at = (first + i) % 2 ** 32;
          const page = pages.get(multiMemberPage(at))!;
          assert.equal(new DataView(page.buffer).getUint32(multiMemberXidByte(at), true), member.xid);
          assert.equal(page[multiMemberFlagByte(at)], member.status);
        });
      }),
      { numRuns: 50 },
    );
    const pageCount = multixactMemberChanges(MULTIXACT_MEMBERS_PER_PAGE - 1, [
      { xid: 5, status: 0 },
      { xid: 6, status: 1 },
    ]).length;
    assert.equal(pageCount, 2);
  });

  it('clears map bits of the named blocks only; cuts a map; leaves the LSN', () => {
    const full = new Uint8Array(8192).fill(0xff);
    const cleared = reconstructPage(full, [
      { endLsn: lsn(8), value: encodeVmClear([VM_HEAP_BLOCKS_PER_PAGE + 5], VM_ALL_FROZEN) },
      { endLsn: lsn(8), value: encodeVmClear([0, 6], VM_VALID_BITS) },
    ]);
    assert.deepEqual([...cleared.subarray(0, 27)], [...full.subarray(0, 24), 0xfc, 0xc7, 0xff]);
    const cut = reconstructPage(full, [{ endLsn: lsn(8), value: encodeVmTruncate(VM_HEAP_BLOCKS_PER_PAGE * 3 + 6) }]);
    assert.deepEqual([...cut.subarray(20, 28)], [0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    assert.ok(cut.subarray(28).every((byte) => byte === 0));
    assert.deepEqual(
      reconstructPage(null, [{ endLsn: lsn(8), value: encodeVmClear([3], VM_VALID_BITS) }]),
      new Uint8Array(8192),
    );
    assert.deepEqual(reconstructPage(full, [{ endLsn: lsn(8), value: encodeZeroPage() }]), new Uint8Array(8192));
  });
});
