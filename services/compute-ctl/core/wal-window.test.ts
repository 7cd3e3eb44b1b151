import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import { WalWindow } from './wal-window.js';

const BLOCK = 1 << 20;

describe('wal window', () => {
  it('gives back what was appended, or says that it is gone', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 700_000 })), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        fc.nat(1 << 24),
        sizes,
        fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(200_000))),
        (start, pieces, reads) => {
          const window = new WalWindow(lsn(start), 2 * BLOCK);
          const all: Uint8Array[] = [];
          let end = start;
          for (const size of pieces) {
            const piece = new Uint8Array(size).map((_, index) => (end + index) % 251);
            window.append(lsn(end), piece);
            all.push(piece);
            end += size;
          }
          const whole = Buffer.concat(all);
          assert.equal(window.endLsn, end);
          assert.ok(end - window.startLsn <= 2 * BLOCK && window.startLsn >= start);
          for (const [where, length] of reads) {
            const from = start + Math.floor(where * (end - start));
            const found = window.read(lsn(from), lsn(from + 1 + length));
            if (from < window.startLsn || from >= end) assert.equal(found, null);
            else {
              assert.ok(found !== null && found.length >= 1 && found.length <= length + 1);
              assert.equal(Buffer.compare(found, whole.subarray(from - start, from - start + found.length)), 0);
            }
          }
        },
      ),
      { numRuns: 15 },
    );
  });

  it('refuses WAL that does not continue', () => {
    const window = new WalWindow(lsn(100), BLOCK);
    assert.throws(() => window.append(lsn(101), new Uint8Array(1)));
  });

  it('leaves pieces alone that were handed out', () => {
    const window = new WalWindow(lsn(0), BLOCK);
    window.append(lsn(0), new Uint8Array(BLOCK).fill(1));
    const held = window.read(lsn(0), lsn(100));
    window.append(lsn(BLOCK), new Uint8Array(3 * BLOCK).fill(2));
    assert.ok(held?.every((byte) => byte === 1));
    assert.equal(window.read(lsn(0), lsn(1)), null);
  });
});
