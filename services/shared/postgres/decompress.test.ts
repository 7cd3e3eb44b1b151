import { strict as assert } from 'node:assert';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { StorageError } from '../core/errors.js';
import { decompressLz4, decompressPglz, decompressZstd } from './decompress.js';

/** A literal, or a copy of `length` bytes from `offset` back; offsets are cut to what is there. */
type Token = { kind: 'literal'; byte: number } | { kind: 'copy'; offset: number; length: number };

const tokens = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('literal' as const), byte: fc.nat(255) }),
    fc.record({
      kind: fc.constant('copy' as const),
      offset: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 4095 })),
      length: fc.oneof(fc.integer({ min: 4, max: 20 }), fc.integer({ min: 4, max: 273 })),
    }),
  ),
  { minLength: 1, maxLength: 300 },
);

/** What the tokens mean, and the tokens with offsets that exist. */
function expand(list: readonly Token[]): { plain: number[]; list: Token[] } {
  const plain: number[] = [];
  const real: Token[] = [];
  for (const token of list) {
    if (token.kind === 'literal' || plain.length === 0) {
      const byte = token.kind === 'literal' ? token.byte : 1;
      plain.push(byte);
      real.push({ kind: 'literal', byte });
      continue;
    }
    const offset = Math.min(token.offset, plain.length);
    for (let i = 0; i < token.length; i++) plain.push(plain[plain.length - offset]!);
    real.push({ kind: 'copy', offset, length: token.length });
  }
  return { plain, list: real };
}

function encodePglz(list: readonly Token[]): number[] {
  const out: number[] = [];
  for (let at = 0; at < list.length; at += 8) {
    const control = out.push(0) - 1;
    list.slice(at, at + 8).forEach((token, bit) => {
      if (token.kind === 'literal') {
        out.push(token.byte);
        return;
      }
      out[control]! |= 1 << bit;
      const long = token.length >= 18;
      out.push(((token.offset & 0xf00) >>> 4) | (long ? 15 : token.length - 3), token.offset & 0xff);
      if (long) out.push(token.length - 18);
    });
  }
  return out;
}

function encodeLz4(list: readonly Token[]): number[] {
  const out: number[] = [];
  let literals: number[] = [];
  const extended = (count: number): void => {
    if (count < 15) return;
    let left = count - 15;
    for (; left >= 255; left -= 255) out.push(255);
    out.push(left);
  };
  const sequence = (copy: { offset: number; length: number } | null): void => {
    const matched = copy === null ? 0 : copy.length - 4;
    out.push((Math.min(15, literals.length) << 4) | Math.min(15, matched));
    extended(literals.length);
    out.push(...literals);
    literals = [];
    if (copy === null) return;
    out.push(copy.offset & 0xff, copy.offset >>> 8);
    extended(matched);
  };
  for (const token of list) {
    if (token.kind === 'literal') literals.push(token.byte);
    else sequence(token);
  }
  sequence(null);
  return out;
}

const METHODS = [
  { name: 'pglz', decompress: decompressPglz, encode: encodePglz },
  { name: 'LZ4', decompress: decompressLz4, encode: encodeLz4 },
] as const;

for (const { name, decompress, encode } of METHODS) {
  describe(`decompression of ${name}`, () => {
    it('follows literals and copies', () => {
      fc.assert(
        fc.property(tokens, fc.nat(5), (drawn, lead) => {
          const { plain, list } = expand(drawn);
          const packed = Uint8Array.from([...Array<number>(lead).fill(9), ...encode(list), 1, 2, 3]);
          const out = new Uint8Array(plain.length + 10).fill(0xee);
          decompress(packed, lead, packed.length - 3, out, plain.length);
          assert.deepEqual([...out], [...plain, ...Array<number>(10).fill(0xee)]);
        }),
      );
    });

    it('takes damage for damage and stays within its output', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(500), (noise, length) => {
          const out = new Uint8Array(600).fill(0xee);
          try {
            decompress(noise, 0, noise.length, out, length);
          } catch (error) {
            assert.ok(error instanceof StorageError && error.kind === 'corrupt');
          }
          assert.ok(out.subarray(length).every((byte) => byte === 0xee));
        }),
        { numRuns: 1000 },
      );
    });

    it('refuses cut input', () => {
      const { plain, list } = expand([
        { kind: 'literal', byte: 5 },
        { kind: 'copy', offset: 1, length: 100 },
        { kind: 'literal', byte: 6 },
      ]);
      const packed = Uint8Array.from(encode(list));
      const out = new Uint8Array(plain.length);
      for (let cut = 0; cut < packed.length; cut++) {
        assert.throws(() => decompress(packed, 0, cut, out, plain.length), { kind: 'corrupt' });
      }
    });
  });
}

describe('decompression of zstd', () => {
  it('is the inverse of compression and refuses other lengths and noise', () => {
    const plain = Buffer.from('abcdefgh'.repeat(500));
    const packed = zstdCompressSync(plain);
    const out = new Uint8Array(plain.length);
    decompressZstd(packed, 0, packed.length, out, plain.length);
    assert.deepEqual(Buffer.from(out), plain);
    for (const length of [plain.length - 1, plain.length + 1]) {
      assert.throws(() => decompressZstd(packed, 0, packed.length, new Uint8Array(5000), length), { kind: 'corrupt' });
    }
    assert.throws(() => decompressZstd(plain, 0, plain.length, out, plain.length), { kind: 'corrupt' });
  });
});
