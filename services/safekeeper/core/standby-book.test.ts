import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { StandbyBook } from './standby-book.js';

const at = (applyLsn: number) => ({ writeLsn: lsn(900), flushLsn: lsn(900), applyLsn: lsn(applyLsn) });

describe('standby book', () => {
  it('says nothing to the primary until a replica asks, and goes on after it left', () => {
    const book = new StandbyBook();
    book.add(1);
    assert.equal(book.feedback(5), null);
    assert.equal(book.putXmin(1, { xmin: 0n, catalogXmin: 0n }), false);
    assert.equal(book.feedback(5), null);
    assert.equal(book.putXmin(1, { xmin: 700n, catalogXmin: 0n }), true);
    assert.deepEqual(book.feedback(5), { timeUs: 5, xmin: 700n, catalogXmin: 0n });
    book.remove(1);
    assert.deepEqual(book.feedback(6), { timeUs: 6, xmin: 0n, catalogXmin: 0n });
  });

  it('keeps for the replica that needs most', () => {
    const book = new StandbyBook();
    book.add(1);
    book.add(2);
    book.putXmin(1, { xmin: 700n, catalogXmin: 0n });
    assert.equal(book.putXmin(2, { xmin: 800n, catalogXmin: 650n }), true);
    assert.deepEqual(book.feedback(1), { timeUs: 1, xmin: 700n, catalogXmin: 650n });
    assert.equal(book.putXmin(2, { xmin: 801n, catalogXmin: 650n }), false);
    assert.equal(book.horizon, null);
    book.putPositions(1, at(300));
    book.putPositions(2, at(200));
    assert.equal(book.horizon, 200);
    book.remove(2);
    assert.equal(book.horizon, 300);
    assert.equal(book.count, 1);
  });

  it('takes nothing from one that has left', () => {
    const book = new StandbyBook();
    assert.equal(book.putXmin(9, { xmin: 1n, catalogXmin: 0n }), false);
    book.putPositions(9, at(1));
    assert.equal(book.horizon, null);
  });
});
