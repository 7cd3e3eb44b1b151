import { strict as assert } from 'node:assert';
import { FIRST_LENGTHS_MAX, FIRST_PAGES_MAX, FirstReads } from './first-reads.js';

const rel = (number: number) => ({ spc: 1663, db: 5, rel: number, fork: 0 });

describe('first reads', () => {
  it('notes nothing before a start, and for some seconds after it', () => {
    const reads = new FirstReads();
    assert.equal(reads.isNoting, false);
    reads.begin(10_000);
    assert.equal(reads.isNoting, true);
    reads.notePage(rel(1259), 3, 10_001);
    reads.notePage(rel(1259), 3, 10_002);
    reads.noteLength(rel(1259), 12_999);
    reads.notePage(rel(1249), 0, 13_000);
    assert.equal(reads.isNoting, false);
    assert.deepEqual(reads.list(), { lengths: [rel(1259)], pages: [{ ...rel(1259), block: 3 }] });
  });

  it('keeps what was sent, and begins anew after many starts', () => {
    const reads = new FirstReads();
    reads.begin(0);
    reads.notePage(rel(1), 1, 1);
    for (let start = 1; start < 64; start++) reads.begin(start);
    reads.notePage(rel(2), 1, 64);
    assert.deepEqual(
      reads.list().pages.map((page) => page.rel),
      [1, 2],
    );
    reads.begin(65);
    assert.equal(reads.isEmpty, true);
    assert.equal(reads.isNoting, true);
  });

  it('goes over to a branch, which sends it on', () => {
    const parent = new FirstReads();
    parent.begin(0);
    parent.notePage(rel(1), 7, 1);
    const branch = new FirstReads();
    branch.begin(0);
    branch.adopt(parent);
    branch.notePage(rel(2), 0, 1);
    assert.deepEqual(
      branch.list().pages.map((page) => page.rel),
      [1, 2],
    );
    assert.equal(parent.list().pages.length, 1);
  });

  it('is bounded', () => {
    const reads = new FirstReads();
    reads.begin(0);
    for (let i = 0; i < 10_000; i++) {
      reads.notePage(rel(1), i, 1);
      reads.noteLength(rel(i + 1), 1);
    }
    assert.equal(reads.list().pages.length, FIRST_PAGES_MAX);
    assert.equal(reads.list().lengths.length, FIRST_LENGTHS_MAX);
  });
});
