import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '#shared/core/lsn.js';
import { FeedbackBook, type PageserverFeedback } from './feedback.js';
import { WalTail } from './wal-tail.js';

describe('WAL tail', () => {
  it('gives exactly what was appended, or null', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 200 }), fc.nat(20_000), fc.nat(300), (lengths, limit, at, count) => {
        const tail = new WalTail(limit);
        const whole: number[] = [];
        for (const length of lengths) {
          const bytes = Uint8Array.from({ length }, (_, index) => (whole.length + index) % 251);
          tail.append(lsn(1000 + whole.length), bytes);
          whole.push(...bytes);
          assert.ok(tail.heldBytes <= limit);
        }
        const from = 1000 + (at % (whole.length + 1));
        const to = Math.min(from + count, 1000 + whole.length);
        const pieces = tail.read(lsn(from), lsn(to));
        if (pieces === null) {
          assert.ok(from < 1000 + whole.length - tail.heldBytes || tail.heldBytes === 0);
        } else {
          assert.deepEqual([...Buffer.concat(pieces)], whole.slice(from - 1000, to - 1000));
        }
      }),
    );
  });

  it('starts anew behind a gap', () => {
    const tail = new WalTail(100);
    tail.append(lsn(0), Buffer.from('abc'));
    tail.append(lsn(2), Buffer.from('xyz'));
    assert.equal(tail.read(lsn(0), lsn(3)), null);
    assert.equal(Buffer.concat(tail.read(lsn(2), lsn(5)) ?? []).toString(), 'xyz');
    assert.equal(tail.read(lsn(4), lsn(6)), null);
  });
});

describe('feedback book', () => {
  const at = (received: number, replyTimeUs = 0): PageserverFeedback => ({
    timelineSizeBytes: 1,
    shardNumber: 0,
    shardCount: 0,
    lastReceivedLsn: lsn(received),
    diskConsistentLsn: lsn(received - 1),
    remoteConsistentLsn: lsn(received - 2),
    replyTimeUs,
  });

  it('follows the most advanced reader and keeps the last word', () => {
    const book = new FeedbackBook();
    const received = (): number | null => book.merged?.lastReceivedLsn ?? null;
    assert.equal(received(), null);
    assert.equal(book.put(1, at(100)), true);
    assert.equal(book.put(1, at(100, 5)), false);
    assert.equal(book.put(2, at(50)), false);
    assert.equal(book.put(2, at(150)), true);
    book.remove(2);
    assert.equal(received(), 100);
    book.remove(1);
    assert.equal(received(), 100);
    assert.equal(book.readerCount, 0);
  });

  it('takes the least of the shards, also of one that is away, and knows nothing before all have spoken', () => {
    const book = new FeedbackBook();
    const shard = (shardNumber: number, received: number) => ({ ...at(received), shardNumber, shardCount: 2 });
    const remote = (): number | null => book.merged?.remoteConsistentLsn ?? null;
    book.put(1, at(90));
    assert.equal(remote(), 88);
    // Split: the tenant as a whole does not count any more.
    book.put(2, shard(0, 200));
    assert.equal(remote(), 0);
    book.put(3, shard(1, 100));
    assert.equal(remote(), 98);
    book.put(4, shard(1, 150));
    assert.equal(remote(), 148);
    book.remove(3);
    book.remove(4);
    book.put(2, shard(0, 300));
    assert.equal(remote(), 148);
    book.put(5, shard(1, 250));
    assert.equal(remote(), 248);
    book.put(1, at(1000));
    assert.equal(remote(), 248);
  });
});
