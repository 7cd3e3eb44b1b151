import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn, type Lsn } from '../core/lsn.js';
import {
  checkTermHistory,
  commonPoint,
  compareLogs,
  cutTermHistory,
  formatTermHistory,
  lastLogTerm,
  streamingStart,
  termFromWire,
  termHistoryFromWire,
  termHistoryToWire,
  type TermHistory,
} from './term-history.js';

/** "1@100 3@200": decimal positions, for tests. */
function history(text: string): TermHistory {
  if (text === '') return [];
  return text.split(' ').map((entry) => {
    const [term, at] = entry.split('@');
    return { term: Number(term), lsn: lsn(Number(at)) };
  });
}

const histories: fc.Arbitrary<TermHistory> = fc
  .array(fc.record({ term: fc.nat(5), lsn: fc.nat(30) }), { maxLength: 6 })
  .map((steps) => {
    const out: { term: number; lsn: Lsn }[] = [];
    let term = 0;
    let at = 100;
    for (const step of steps) {
      term += 1 + step.term;
      at += step.lsn;
      out.push({ term, lsn: lsn(at) });
    }
    return out;
  });

describe('term history', () => {
  it('takes the last entry at or below the flush position', () => {
    const h = history('1@100 3@200 4@200');
    assert.equal(lastLogTerm(h, lsn(99)), 0);
    assert.equal(lastLogTerm(h, lsn(100)), 1);
    assert.equal(lastLogTerm(h, lsn(199)), 1);
    assert.equal(lastLogTerm(h, lsn(200)), 4);
    assert.deepEqual(cutTermHistory(h, lsn(150)), history('1@100'));
    assert.equal(cutTermHistory(h, lsn(200)), h);
  });

  it('orders logs by term before position', () => {
    assert.ok(compareLogs({ lastLogTerm: 2, flushLsn: lsn(1) }, { lastLogTerm: 1, flushLsn: lsn(9) }) > 0);
    assert.ok(compareLogs({ lastLogTerm: 2, flushLsn: lsn(1) }, { lastLogTerm: 2, flushLsn: lsn(9) }) < 0);
  });

  const cases: [proposer: string, acceptor: string, flush: number, expected: number | null][] = [
    ['1@100', '', 0, null],
    ['2@100', '1@100', 150, null],
    ['1@100', '1@100', 150, 150],
    ['1@100 2@150', '1@100', 130, 130],
    ['1@100 2@150', '1@100', 170, 150],
    ['1@100 3@150', '1@100 2@120', 170, 120],
    ['1@100 3@150', '1@100 2@160', 170, 150],
    // The acceptor adopted term 2, but holds nothing at its start yet: that entry does not count.
    ['1@100 2@150 3@180', '1@100 2@150', 140, 140],
    ['1@100 2@150', '1@100 2@150', 190, 190],
    ['0@100 1@100', '0@100', 100, 100],
  ];
  for (const [proposer, acceptor, flush, expected] of cases) {
    it(`finds ${String(expected)} as common point of [${proposer}] and [${acceptor}] with flush ${flush}`, () => {
      const point = commonPoint(history(proposer), history(acceptor), lsn(flush));
      assert.equal(point === null ? null : point.lsn, expected);
      assert.equal(streamingStart(history(proposer), history(acceptor), lsn(flush)), expected ?? 100);
    });
  }

  it('refuses one term with two starts', () => {
    assert.throws(() => commonPoint(history('1@100'), history('1@108'), lsn(200)), { kind: 'corrupt' });
    assert.throws(() => streamingStart([], history('1@108'), lsn(200)), { kind: 'invalid' });
  });

  it('agrees with comparing the logs byte for byte', () => {
    // The twin: expand both logs to one term per byte and count equal bytes. Valid for logs of the same cluster, where a term
    // has one start; so the acceptor's history is a prefix of the proposer's, perhaps followed by terms of its own.
    fc.assert(
      fc.property(histories, fc.nat(6), histories, fc.nat(60), (proposer, shared, tail, extra) => {
        fc.pre(proposer.length > 0);
        const prefix = proposer.slice(0, Math.min(shared, proposer.length));
        fc.pre(prefix.length > 0);
        const last = prefix.at(-1) as { term: number; lsn: Lsn };
        const own = tail.map((entry) => ({ term: entry.term + 1000, lsn: lsn(entry.lsn - 100 + last.lsn) }));
        const acceptor = [...prefix, ...own];
        const flush = lsn((prefix[0]?.lsn ?? 0) + extra);
        const writer = (h: TermHistory, at: number): number => lastLogTerm(h, lsn(at));
        const held = cutTermHistory(acceptor, flush);
        let equalEnd = proposer[0]?.lsn ?? 0;
        while (equalEnd < flush && writer(held, equalEnd) === writer(proposer, equalEnd)) equalEnd += 1;
        const point = commonPoint(proposer, acceptor, flush);
        // Never beyond what is equal (safety); equal to it but where an empty term of one side hides a later agreement.
        assert.ok(point !== null && point.lsn <= equalEnd);
        if (held.length === prefix.length && held.length === proposer.length) assert.equal(point.lsn, flush);
      }),
    );
  });

  it('checks order and range of what peers send', () => {
    for (const bad of ['2@100 1@200', '1@100 1@200', '1@100 2@90']) {
      assert.throws(() => checkTermHistory(history(bad)), { kind: 'invalid' });
    }
    assert.throws(() => termFromWire(1n << 60n), { kind: 'invalid' });
    assert.throws(() => termHistoryFromWire([{ term: 1n, lsn: 1n << 60n }]), { kind: 'invalid' });
    fc.assert(
      fc.property(histories, (h) => {
        assert.deepEqual(termHistoryFromWire(termHistoryToWire(h)), h);
      }),
    );
    assert.equal(formatTermHistory(history('1@256 2@512')), '1@0/100 2@0/200');
  });
});
