import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { ProposeRequest } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { lsn } from '#shared/core/lsn.js';
import type { AppendRequest } from '../core/messages.js';
import { proposerMessageToWire } from './consensus-codec.js';
import { ProposerEncoder } from './proposer-encoder.js';

const number = fc.oneof(fc.constant(0), fc.nat(300), fc.maxSafeNat());
const append: fc.Arbitrary<AppendRequest> = fc
  .record({
    generation: fc.nat(),
    term: number,
    begin: number,
    commit: number,
    truncate: number,
    walData: fc.uint8Array({ maxLength: 300 }),
  })
  .map(({ begin, commit, truncate, ...rest }) => ({
    kind: 'append',
    ...rest,
    beginLsn: lsn(begin),
    commitLsn: lsn(commit),
    truncateLsn: lsn(truncate),
  }));

describe('proposer encoder', () => {
  it('writes appends exactly as the generated code does', () => {
    fc.assert(
      fc.property(append, (message) => {
        const generated = ProposeRequest.encode(proposerMessageToWire(message)).finish();
        assert.deepEqual(new ProposerEncoder().encode(message), Buffer.from(generated));
      }),
    );
  });

  it('keeps the last one, and only for the very same message', () => {
    const encoder = new ProposerEncoder();
    const walData = Uint8Array.of(1, 2, 3, 4);
    const base = {
      kind: 'append',
      generation: 0,
      term: 1,
      beginLsn: lsn(8),
      commitLsn: lsn(8),
      truncateLsn: lsn(0),
      walData,
    } as const;
    const first = encoder.encode(base);
    assert.equal(encoder.encode({ ...base, walData: walData.subarray(0) }), first);
    const others = [{ commitLsn: lsn(9) }, { term: 2 }, { walData: walData.subarray(1) }, { walData: walData.slice() }];
    for (const other of others) assert.notEqual(encoder.encode({ ...base, ...other }), first);
  });
});
