import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { crc32c, crc32cUpdate } from './crc32c.js';

/** Bit by bit: slow, and obviously the definition. */
function crcByBits(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

describe('crc32c', () => {
  it('gives the published check values', () => {
    assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
    assert.equal(crc32c(new Uint8Array(0)), 0);
  });

  it('equals the definition, in one go and in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, split) => {
        const middle = Math.min(split, bytes.length);
        const expected = crcByBits(bytes);
        assert.equal(crc32c(bytes), expected);
        const first = crc32cUpdate(0xffffffff, bytes, 0, middle);
        assert.equal((crc32cUpdate(first, bytes, middle, bytes.length) ^ 0xffffffff) >>> 0, expected);
        assert.equal(crc32c(bytes, middle), crcByBits(bytes.subarray(middle)));
      }),
    );
  });
});
