import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { compareKeys, keyOf } from '../key.js';
import type { Key } from '../key.js';
import { BlockBuilder, decodeBlock } from './layer-block.js';
import type { DecodedBlock } from './layer-block.js';
import { LayerEncoder } from './layer-encoder.js';
import { decodeEnds, LayerIndex, LAYER_FOOTER_BYTES, LAYER_HEADER_BYTES, unpackPart } from './layer-format.js';
import { MAX_KEY, MIN_KEY } from './layer-name.js';
import type { LayerSpan } from './layer-name.js';
import type { ValueKind } from './store.js';

interface Version {
  readonly key: Key;
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

const OWNER = {
  ttid: { tenantId: parseTenantId('01'.repeat(16)), timelineId: parseTimelineId('02'.repeat(16)) },
  pgMajor: 15,
};
const SPAN: LayerSpan = {
  kind: 'delta',
  keyStart: MIN_KEY,
  keyEnd: MAX_KEY,
  lsnStart: lsn(1000),
  lsnEnd: lsn(0x20_0000_0000),
};

const versionArbitrary = fc.record({
  key: fc
    .tuple(fc.nat(1), fc.nat(3), fc.oneof(fc.nat(20), fc.constantFrom(0x7fff_ffff, 0x8000_0000, 0xffff_ffff)))
    .map(([field1, field4, field6]) => keyOf({ field1, field2: 1663, field3: 5, field4, field5: 0, field6 })),
  lsn: fc.oneof(fc.nat(50), fc.integer({ min: 0, max: 0x1f_0000_0000 })).map((n) => lsn(1000 + n)),
  kind: fc.constantFrom<ValueKind>(1, 2, 3, 4),
  value: fc.oneof(
    { weight: 10, arbitrary: fc.uint8Array({ maxLength: 50 }) },
    { weight: 1, arbitrary: fc.constant(new Uint8Array(20_000).fill(9)) },
  ),
});

function sorted(versions: readonly Version[]): Version[] {
  return [...versions].sort((a, b) => compareKeys(a.key, b.key) || a.lsn - b.lsn);
}

function encode(versions: readonly Version[]): Uint8Array {
  const encoder = new LayerEncoder(SPAN);
  const parts = [encoder.begin(OWNER, 'delta')];
  for (const { key, lsn: at, kind, value } of versions) {
    if (encoder.add(key, at, kind, value)) parts.push(encoder.endBlock());
  }
  parts.push(...encoder.finish(SPAN));
  const file = Buffer.concat(parts);
  assert.equal(file.length, encoder.sizeBytes);
  return file;
}

function openFile(file: Uint8Array): { index: LayerIndex; block: (n: number) => DecodedBlock } {
  const footerAt = file.length - LAYER_FOOTER_BYTES;
  const header = file.subarray(0, LAYER_HEADER_BYTES);
  const expected = { owner: OWNER, span: SPAN, fileBytes: file.length };
  const summary = decodeEnds(header, file.subarray(footerAt), expected);
  const index = new LayerIndex(file.subarray(summary.indexOffset, footerAt), summary, SPAN);
  const block = (n: number) => {
    const place = index.place(n);
    const stored = file.subarray(place.offset, place.offset + place.storedLength);
    return decodeBlock(unpackPart(stored, place.rawLength, place.crc, 'block'), SPAN);
  };
  return { index, block };
}

function readAll(file: Uint8Array): Version[] {
  const { index, block } = openFile(file);
  const versions: Version[] = [];
  for (let n = 0; n < index.blockCount; n++) {
    const decoded = block(n);
    for (let i = 0; i < decoded.count; i++) {
      versions.push({ key: decoded.key(i), lsn: decoded.lsn(i), kind: decoded.kind(i), value: decoded.value(i) });
    }
  }
  return versions;
}

function plain(versions: readonly Version[]): unknown[] {
  return versions.map((version) => [
    version.key,
    version.lsn,
    version.kind,
    Buffer.from(version.value).toString('hex'),
  ]);
}

/** The newest version at or below `at`, as a lookup finds it. */
function lookup(file: Uint8Array, key: Key, at: Lsn): Version | null {
  const { index, block } = openFile(file);
  const n = index.mayContain(key) ? index.findBlock(key, at) : -1;
  if (n < 0) return null;
  const decoded = block(n);
  const i = decoded.upperBound(key, at) - 1;
  if (i < 0 || decoded.key(i) !== key) return null;
  return { key, lsn: decoded.lsn(i), kind: decoded.kind(i), value: decoded.value(i) };
}

describe('layer file', () => {
  it('gives back what went in, in order', () => {
    fc.assert(
      fc.property(fc.array(versionArbitrary, { minLength: 1, maxLength: 60 }), (versions) => {
        const input = sorted(versions);
        assert.deepEqual(plain(readAll(encode(input))), plain(input));
      }),
      { numRuns: 60 },
    );
  });

  it('finds the newest version at an LSN', () => {
    const probe = fc.tuple(versionArbitrary, fc.integer({ min: -2, max: 2 }));
    fc.assert(
      fc.property(fc.array(versionArbitrary, { minLength: 1, maxLength: 40 }), fc.array(probe), (versions, probes) => {
        const input = sorted(versions);
        const file = encode(input);
        for (const [version, shift] of [...probes, ...input.map((v) => [v, 0] as const)]) {
          const at = lsn(version.lsn + shift);
          const wanted = input.findLast((candidate) => candidate.key === version.key && candidate.lsn <= at) ?? null;
          const found = lookup(file, version.key, at);
          assert.deepEqual(found && plain([found]), wanted && plain([wanted]));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('answers a flipped or cut byte with `corrupt`, never with other data', () => {
    const versions = sorted(fc.sample(versionArbitrary, { numRuns: 120, seed: 4 }));
    const file = encode(versions);
    const wanted = JSON.stringify(plain(versions));
    for (let at = 0; at < file.length; at += file.length > 4000 ? 7 : 1) {
      const damaged = Uint8Array.from(file);
      damaged[at]! ^= 1 << (at % 8);
      try {
        assert.equal(JSON.stringify(plain(readAll(damaged))), wanted, `byte ${at}`);
      } catch (error) {
        assert.ok(error instanceof StorageError && error.kind === 'corrupt', `byte ${at}: ${String(error)}`);
      }
      const cut = file.subarray(0, at);
      assert.throws(
        () => readAll(cut),
        (error) => error instanceof StorageError && error.kind === 'corrupt',
      );
    }
  });

  it('is refused by another timeline and another span', () => {
    const file = encode(sorted(fc.sample(versionArbitrary, { numRuns: 3, seed: 1 })));
    const footerAt = file.length - LAYER_FOOTER_BYTES;
    const open = (owner: typeof OWNER, span: LayerSpan) =>
      decodeEnds(file.subarray(0, LAYER_HEADER_BYTES), file.subarray(footerAt), {
        owner,
        span,
        fileBytes: file.length,
      });
    open(OWNER, SPAN);
    const other = { ...OWNER.ttid, timelineId: parseTimelineId('03'.repeat(16)) };
    assert.throws(() => open({ ...OWNER, ttid: other }, SPAN), /another layer/);
    assert.throws(() => open(OWNER, { ...SPAN, lsnEnd: lsn(5000) }), /another layer/);
    assert.throws(() => open(OWNER, { ...SPAN, keyEnd: lookupKey() }), /another layer/);
  });

  it('refuses unsorted versions and versions outside of its LSNs', () => {
    const encoder = new LayerEncoder(SPAN);
    const value = new Uint8Array(1);
    encoder.add(lookupKey(), lsn(2000), 1, value);
    assert.throws(() => encoder.add(MIN_KEY, lsn(2000), 1, value), /not sorted/);
    assert.throws(() => encoder.add(lookupKey(), lsn(1999), 1, value), /not sorted/);
    assert.throws(() => encoder.add(lookupKey(), MAX_LSN, 1, value), /outside/);
  });
});

function lookupKey(): Key {
  return keyOf({ field1: 0, field2: 1663, field3: 5, field4: 1, field5: 0, field6: 3 });
}

describe('layer block', () => {
  it('never does more than throw `corrupt` on random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeBlock(bytes, SPAN);
        } catch (error) {
          assert.ok(error instanceof StorageError && error.kind === 'corrupt', String(error));
        }
      }),
    );
  });

  it('stores many blocks of one relation compactly', () => {
    const builder = new BlockBuilder(lsn(1000));
    for (let i = 0; i < 100; i++) {
      const key = keyOf({ field1: 0, field2: 1663, field3: 5, field4: 1, field5: 0, field6: i });
      builder.add(key, lsn(1000 + i), 2, new Uint8Array(0));
    }
    assert.ok(builder.take().bytes.length < 100 * 4 + 30);
  });
});
