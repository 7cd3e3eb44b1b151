import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { ProposeRequest, StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { decodeProposeRequest, encodeStreamWalResponse } from './wal-codec.js';

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const wal = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
const PLAIN = { noNullPrototype: true } as const;

describe('WAL codecs', () => {
  it('read appends as the generated code does', () => {
    const append = fc.record(
      { generation: fc.nat(), term: u64, beginLsn: u64, commitLsn: u64, truncateLsn: u64, walData: wal },
      PLAIN,
    );
    fc.assert(
      fc.property(append, (value) => {
        const bytes = Buffer.from(ProposeRequest.encode({ message: { $case: 'append', value } }).finish());
        assert.deepEqual(decodeProposeRequest(bytes), ProposeRequest.decode(bytes));
      }),
    );
  });

  it('read every other message, and refuse what is none', () => {
    const request: ProposeRequest = { message: { $case: 'vote', value: { generation: 3, term: 9n } } };
    const bytes = Buffer.from(ProposeRequest.encode(request).finish());
    assert.deepEqual(decodeProposeRequest(bytes), request);
    assert.throws(() => decodeProposeRequest(Buffer.from([0x22, 0x7f, 1, 2])));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (rest) => {
        const input = Buffer.from([0x22, ...rest]);
        // Ours may refuse more (the generated code stops silently at a zero tag), but never reads anything else.
        let actual: ProposeRequest;
        try {
          actual = decodeProposeRequest(input);
        } catch {
          return;
        }
        assert.deepEqual(actual, ProposeRequest.decode(input));
      }),
      { numRuns: 2000 },
    );
  });

  it('write WAL as the generated code does', () => {
    fc.assert(
      fc.property(fc.record({ startLsn: u64, availableLsn: u64, walData: wal }, PLAIN), (value) => {
        const expected = Buffer.from(StreamWalResponse.encode(value).finish());
        assert.ok(encodeStreamWalResponse(value).equals(expected));
      }),
    );
  });
});
