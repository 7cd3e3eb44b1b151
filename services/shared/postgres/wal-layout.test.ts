import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '../core/lsn.js';
import {
  checkSegmentSize,
  normalizeLsn,
  parseSegmentName,
  recordStart,
  segmentName,
  segmentNumber,
  segmentStart,
} from './wal-layout.js';

const MB = 1024 * 1024;
const sizes = fc.constantFrom(MB, 16 * MB, 1024 * MB);

describe('WAL layout', () => {
  it('names segments as the server does', () => {
    assert.equal(segmentName(segmentNumber(lsn(0x16_b374_d848), 16 * MB), 16 * MB), '0000000100000016000000B3');
    assert.equal(segmentName(segmentNumber(lsn(0x16_b374_d848), MB), MB), '000000010000001600000B37');
    assert.equal(segmentName(1, 16 * MB, 0x2a), '0000002A0000000000000001');
  });

  it('reads names back and refuses other names', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 23 - 1), fc.integer({ min: 1, max: 2 ** 31 - 1 }), sizes, (segno, tli, size) => {
        assert.deepEqual(parseSegmentName(segmentName(segno, size, tli), size), { tli, segno });
      }),
    );
    for (const name of [
      '',
      '000000010000000000000001.partial',
      '00000001000000000000000g',
      '000000010000000000000100',
    ]) {
      assert.equal(parseSegmentName(name, 16 * MB), null);
    }
  });

  it('finds where a record begins, and back', () => {
    assert.equal(recordStart(lsn(16 * MB), 16 * MB), 16 * MB + 40);
    assert.equal(recordStart(lsn(16 * MB + 8192), 16 * MB), 16 * MB + 8192 + 24);
    assert.equal(recordStart(lsn(16 * MB + 8200), 16 * MB), 16 * MB + 8200);
    fc.assert(
      fc.property(fc.nat(2 ** 45), sizes, (words, size) => {
        const position = normalizeLsn(lsn(words * 8), size);
        assert.equal(normalizeLsn(recordStart(position, size), size), position);
        assert.ok(segmentStart(position, size) <= position && position < segmentStart(position, size) + size);
      }),
    );
  });

  it('accepts the segment sizes that the server accepts', () => {
    for (const size of [MB, 2 * MB, 1024 * MB]) checkSegmentSize(size);
    for (const size of [0, MB - 1, MB / 2, 3 * MB, 2048 * MB, NaN]) assert.throws(() => checkSegmentSize(size));
  });
});
