import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { encodeStatusUpdate, parseReplicationMessage } from './replication-messages.js';

describe('replication messages', () => {
  it('reads WAL and keepalives', () => {
    const wal = Buffer.alloc(30);
    wal[0] = 0x77;
    wal.writeBigUInt64BE(0x1_0000_0010n, 1);
    wal.write('abcde', 25);
    const message = parseReplicationMessage(wal);
    assert.ok(message.kind === 'wal');
    assert.equal(message.beginLsn, 0x1_0000_0010);
    assert.equal(Buffer.from(message.bytes).toString(), 'abcde');

    const keepalive = Buffer.alloc(18);
    keepalive[0] = 0x6b;
    keepalive.writeBigUInt64BE(77n, 1);
    keepalive[17] = 1;
    assert.deepEqual(parseReplicationMessage(keepalive), { kind: 'keepalive', endLsn: 77, replyWanted: true });
  });

  it('gives a typed error for everything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          parseReplicationMessage(bytes);
        } catch (error) {
          assert.ok(error instanceof StorageError && error.kind === 'corrupt');
        }
      }),
    );
  });

  it('writes a status update of 34 bytes with Postgres’ own epoch', () => {
    const update = encodeStatusUpdate(
      { writeLsn: lsn(1), flushLsn: lsn(2), applyLsn: lsn(3) },
      Date.UTC(2000, 0, 1) + 5,
    );
    assert.equal(update.length, 34);
    assert.equal(update[0], 0x72);
    assert.deepEqual(
      [1, 9, 17, 25].map((at) => update.readBigInt64BE(at)),
      [1n, 2n, 3n, 5000n],
    );
  });
});
