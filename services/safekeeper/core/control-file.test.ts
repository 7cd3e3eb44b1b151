import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import type { ControlState, PartialObject } from './acceptor-types.js';
import { decodeControlFile, encodeControlFile } from './control-file.js';

const PLAIN = { noNullPrototype: true } as const;
const position = fc.maxSafeNat().map(lsn);
const members = fc.array(fc.record({ nodeId: fc.maxSafeNat(), grpcAddr: fc.string({ unit: 'grapheme' }) }, PLAIN));
const status = fc.constantFrom<PartialObject['status'][]>('uploading', 'uploaded', 'deleting');
const partials = fc.array(fc.record({ status, term: fc.maxSafeNat(), flushLsn: position, commitLsn: position }, PLAIN));
const states: fc.Arbitrary<ControlState> = fc
  .record(
    {
      membership: fc.record({ generation: fc.nat(), members, newMembers: members }, PLAIN),
      terms: fc.uniqueArray(fc.nat(1_000_000), { maxLength: 40 }),
      start: fc.nat(1_000_000),
      pgVersion: fc.nat(),
      systemId: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      segSize: fc.constantFrom(1 << 20, 1 << 24, 1 << 30),
      createdAtMs: fc.maxSafeNat(),
      localStartLsn: position,
      commitLsn: fc.integer({ min: 1_000_000, max: Number.MAX_SAFE_INTEGER }).map(lsn),
      backupLsn: position,
      peerHorizonLsn: position,
      remoteConsistentLsn: position,
      evictedLsn: position,
      partials,
    },
    PLAIN,
  )
  .map(({ terms, start, ...rest }) => ({
    ...rest,
    ttid: {
      tenantId: parseTenantId('0123456789abcdef'.repeat(2)),
      timelineId: parseTimelineId('fedcba9876543210'.repeat(2)),
    },
    term: 1_000_000,
    history: terms.sort((a, b) => a - b).map((term, index) => ({ term, lsn: lsn(start + index) })),
    timelineStartLsn: lsn(start),
  }));

describe('control file', () => {
  it('round-trips', () => {
    fc.assert(fc.property(states, (state) => assert.deepEqual(decodeControlFile(encodeControlFile(state)), state)));
  });

  it('reads a file of version 1, which knew neither partial objects nor eviction', () => {
    // Made by the software of that version.
    const bytes = Buffer.from(
      'VE5TSwEAAACvAAAAASNFZ4mrze8BI0VniavN7/7cuph2VDIQ/ty6mHZUMhADAAAAAQAAAAEAAAAAAAAAAwAAAGE6MQ' +
        'AAAAACAAAAAAAAAAIAAAAAAAAAAAAAACgAAAAAAAAAAgAAAAAAAABYAAAAAAAAAAJKAgAHAAAAAAAAAAAAAAHoAwAA' +
        'AAAAACgAAAAAAAAAKAAAAAAAAABYAAAAAAAAACgAAAAAAAAAKAAAAAAAAAAwAAAAAAAAACUzlZc=',
      'base64',
    );
    const control = decodeControlFile(bytes);
    assert.equal(control.evictedLsn, 0);
    assert.deepEqual(control.partials, []);
    assert.equal(control.term, 2);
    assert.equal(control.membership.members[0]?.grpcAddr, 'a:1');
    assert.equal(control.remoteConsistentLsn, 0x30);
    assert.equal(control.commitLsn, 0x58);
    assert.deepEqual(decodeControlFile(encodeControlFile(control)), control);
  });

  it('refuses every single damaged byte, every cut and every extension', () => {
    const bytes = encodeControlFile(fc.sample(states, { numRuns: 1, seed: 7 })[0] as ControlState);
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Uint8Array.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 0x10;
      const expected = at >= 4 && at < 8 ? 'unimplemented' : 'corrupt';
      assert.throws(() => decodeControlFile(damaged), { kind: expected }, `byte ${at}`);
      assert.throws(() => decodeControlFile(bytes.subarray(0, at)), { kind: 'corrupt' }, `cut at ${at}`);
    }
    assert.throws(() => decodeControlFile(Buffer.concat([bytes, Buffer.alloc(1)])), { kind: 'corrupt' });
  });

  it('survives arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        assert.throws(() => decodeControlFile(bytes), { name: 'StorageError' });
      }),
    );
  });
});
