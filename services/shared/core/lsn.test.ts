import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import {
  alignLsn,
  formatLsn,
  lsn,
  lsnFromHex,
  lsnFromWire,
  lsnToHex,
  lsnToWire,
  MAX_LSN,
  parseLsn,
} from '#shared/core/lsn.js';

describe('lsn', () => {
  it('prints as Postgres does', () => {
    assert.equal(formatLsn(lsn(0x16_b374_d848)), '16/B374D848');
    assert.equal(formatLsn(lsn(0)), '0/0');
  });

  it('round-trips through text, hex and the wire', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (n) => {
        assert.equal(parseLsn(formatLsn(lsn(n))), n);
        assert.equal(lsnFromHex(lsnToHex(lsn(n))), n);
        assert.equal(lsnFromWire(lsnToWire(lsn(n))), n);
      }),
    );
  });

  it('refuses what is not an LSN', () => {
    for (const text of ['', '1', '/', 'G/0', '0/123456789', 'FFFFFFFF/0']) assert.throws(() => parseLsn(text));
    assert.throws(() => lsnFromWire(1n << 60n));
    assert.equal(lsnFromWire(0xffff_ffff_ffff_ffffn), MAX_LSN);
  });

  it('aligns up to 8', () => {
    assert.equal(alignLsn(lsn(17)), 24);
    assert.equal(alignLsn(lsn(24)), 24);
  });
});
