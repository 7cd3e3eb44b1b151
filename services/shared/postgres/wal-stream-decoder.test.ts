import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '../core/errors.js';
import { lsn, type Lsn } from '../core/lsn.js';
import { RM_HEAP, RM_LOGICALMSG } from './rmgr.js';
import { type BuiltRecord, WalBuilder } from './testing/wal-builder.js';
import { findEndOfWal } from './wal-end.js';
import { XLOG_BLCKSZ, XLP_FIRST_IS_OVERWRITE_CONTRECORD } from './wal-layout.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';
import { segmentPrefix } from './wal-synthesis.js';

const SEGMENT = 1024 * 1024;
const SYSTEM = 0x1234_5678_9abc_def0n;
const identity = { segSize: SEGMENT, systemId: SYSTEM };

function builderAt(startLsn: number): WalBuilder {
  return new WalBuilder({ ...identity, startLsn: lsn(startLsn), prevLsn: lsn(startLsn - 64) });
}

function message(length: number, seed = 7): { rmid: number; info: number; xid: number; mainData: Uint8Array } {
  const mainData = Uint8Array.from({ length }, (_, index) => (index * 31 + seed) & 0xff);
  return { rmid: RM_LOGICALMSG, info: 0, xid: seed, mainData };
}

interface Seen {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly record: Uint8Array;
}

function seenBy(decoder: WalStreamDecoder): Seen {
  const { startLsn, endLsn, offset, totalLength, bytes } = decoder.record;
  return { startLsn, endLsn, record: bytes.slice(offset, offset + totalLength) };
}

/** Feeds in pieces of the given sizes, over and over; checks the decoder's invariants after each record. */
function decode(decoder: WalStreamDecoder, bytes: Uint8Array, sizes: readonly number[]): Seen[] {
  const seen: Seen[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    decoder.feed(bytes.subarray(at, at + size));
    at += size;
    while (decoder.next()) {
      seen.push(seenBy(decoder));
      assert.equal(decoder.recordEndLsn, decoder.record.endLsn);
      assert.ok(decoder.recordEndLsn <= decoder.inputLsn);
    }
  }
  return seen;
}

function decodeBuilt(builder: WalBuilder, sizes: readonly number[] = [1 << 20]): Seen[] {
  return decode(new WalStreamDecoder({ startLsn: builder.startLsn, ...identity }), builder.bytes, sizes);
}

function assertSame(seen: readonly Seen[], built: readonly BuiltRecord[]): void {
  assert.deepEqual(
    seen.map(({ startLsn, endLsn, record }) => [startLsn, endLsn, Buffer.from(record).toString('hex')]),
    built.map(({ startLsn, endLsn, record }) => [startLsn, endLsn, Buffer.from(record).toString('hex')]),
  );
}

function corruptWith(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StorageError);
    assert.equal(error.kind, 'corrupt');
    assert.match(error.message, pattern);
    return true;
  };
}

const lengths = fc.array(fc.oneof(fc.nat(300), fc.nat(9000), fc.nat(60_000)), { minLength: 1, maxLength: 40 });
const starts = fc.oneof(
  fc.nat(XLOG_BLCKSZ / 8 - 6).map((words) => 5 * SEGMENT + 40 + words * 8),
  fc.nat(40).map((words) => 6 * SEGMENT - words * 8),
  fc.nat(3).map((page) => 5 * SEGMENT + page * XLOG_BLCKSZ),
);

describe('WAL stream decoder', () => {
  it('gives back what was written, however it is cut', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 30_000 })), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(starts, lengths, sizes, (start, dataLengths, pieces) => {
        const builder = builderAt(start);
        dataLengths.forEach((length, index) => builder.append(message(length, index)));
        assertSame(decodeBuilt(builder, pieces), builder.records);
      }),
      { numRuns: 60 },
    );
  });

  it('starts behind a page header as well', () => {
    const builder = builderAt(5 * SEGMENT + XLOG_BLCKSZ);
    builder.append(message(100));
    builder.append(message(100));
    const start = lsn(builder.startLsn + 24);
    const seen = decode(new WalStreamDecoder({ startLsn: start, ...identity }), builder.bytes.subarray(24), [50]);
    assertSame(seen, builder.records);
  });

  it('refuses positions where no record can begin', () => {
    for (const start of [8, 32, 5 * SEGMENT + 16, XLOG_BLCKSZ + 8, XLOG_BLCKSZ + 100]) {
      assert.throws(() => new WalStreamDecoder({ startLsn: lsn(start), ...identity }), { kind: 'invalid' });
    }
  });

  it('holds a switch record back until the segment is complete', () => {
    const builder = builderAt(5 * SEGMENT + 1000);
    builder.append(message(10));
    const { endLsn } = builder.switchSegment();
    assert.equal(endLsn, 6 * SEGMENT);
    builder.append(message(10));
    const decoder = new WalStreamDecoder({ startLsn: builder.startLsn, ...identity });
    const { bytes } = builder;
    const toSegmentEnd = 6 * SEGMENT - builder.startLsn;
    assert.equal(decode(decoder, bytes.subarray(0, toSegmentEnd - 1), [4096]).length, 1);
    const rest = decode(decoder, bytes.subarray(toSegmentEnd - 1), [1]);
    assertSame(rest, builder.records.slice(1));
  });

  it('drops a record that the server gave up, and goes on at the page that says so', () => {
    const builder = builderAt(5 * SEGMENT + 1000);
    const first = builder.append(message(10));
    const broken = new WalBuilder({ ...identity, startLsn: builder.end, prevLsn: first.startLsn });
    broken.append(message(20_000));
    const restOfPage = XLOG_BLCKSZ - (builder.end % XLOG_BLCKSZ);
    builder.appendRaw(broken.bytes.subarray(0, restOfPage + XLOG_BLCKSZ));
    const page = builder.end - builder.startLsn;
    builder.append(message(30));
    builder.append(message(31));
    const { bytes } = builder;
    bytes.writeUInt16LE(XLP_FIRST_IS_OVERWRITE_CONTRECORD, page + 2);
    const decoder = new WalStreamDecoder({ startLsn: builder.startLsn, ...identity });
    assertSame(decode(decoder, bytes, [777]), builder.records);
  });

  it('passes over the rest of an earlier record when asked to', () => {
    const builder = builderAt(5 * SEGMENT + 9000);
    builder.append(message(30_001));
    const second = builder.append(message(10));
    const bytes = builder.bytes.subarray(2 * XLOG_BLCKSZ - 9000);
    const startLsn = lsn(5 * SEGMENT + 2 * XLOG_BLCKSZ);
    const decoder = new WalStreamDecoder({ startLsn, ...identity, skipContinuation: true });
    assertSame(decode(decoder, bytes, [100]), [second]);
    const strict = new WalStreamDecoder({ startLsn, ...identity });
    assert.throws(() => decode(strict, bytes, [100]), corruptWith(/continues a record/));
  });

  it('comes through a segment prefix to the first record', () => {
    for (const start of [5 * SEGMENT + 48, 5 * SEGMENT + 100_000, 5 * SEGMENT + 3 * XLOG_BLCKSZ]) {
      const builder = builderAt(start);
      builder.append(message(100));
      const file = Buffer.alloc(SEGMENT);
      for (const { offset, bytes } of segmentPrefix({ ...identity, lsn: builder.startLsn })) file.set(bytes, offset);
      file.set(builder.bytes, start - 5 * SEGMENT);
      const decoder = new WalStreamDecoder({ startLsn: lsn(5 * SEGMENT), ...identity, skipContinuation: true });
      decoder.feed(file);
      assert.equal(decoder.next(), true);
      assertSame([seenBy(decoder)], builder.records);
      assert.throws(() => decoder.next(), corruptWith(/zeros/));
    }
  });
});

describe('WAL stream decoder on damaged input', () => {
  function damaged(change: (bytes: Buffer, builder: WalBuilder) => void): () => Seen[] {
    const builder = builderAt(5 * SEGMENT + XLOG_BLCKSZ - 200);
    for (let index = 0; index < 5; index++) builder.append(message(100 * index * index, index));
    const { bytes } = builder;
    change(bytes, builder);
    return () => decode(new WalStreamDecoder({ startLsn: builder.startLsn, ...identity }), bytes, [500]);
  }
  /** Where the second page's header lies in the bytes. */
  const page = 200;

  it('names what is wrong', () => {
    assert.throws(
      damaged((bytes) => bytes.fill(0, 0, 4)),
      corruptWith(/0\/501F38.*zeros/),
    );
    assert.throws(
      damaged((bytes) => bytes.writeUInt32LE(23, 0)),
      corruptWith(/length 23/),
    );
    assert.throws(
      damaged((bytes) => bytes.writeUInt32LE(0x7fff_ffff, 0)),
      corruptWith(/length 2147483647/),
    );
    assert.throws(
      damaged((bytes) => (bytes[17] = 99)),
      corruptWith(/resource manager 99/),
    );
    assert.throws(
      damaged((bytes) => (bytes[24] = 254)),
      corruptWith(/CRC/),
    );
    assert.throws(
      damaged((bytes) => (bytes[40] = 1)),
      corruptWith(/follows 0\/\w+ by its header/),
    );
    assert.throws(
      damaged((bytes) => (bytes[page] = 0)),
      corruptWith(/0\/502000 has magic/),
    );
    assert.throws(
      damaged((bytes) => (bytes[page + 2] = 0)),
      corruptWith(/continues nothing/),
    );
    assert.throws(
      damaged((bytes) => (bytes[page + 2] = 0x21)),
      corruptWith(/info bits/),
    );
    assert.throws(
      damaged((bytes) => (bytes[page + 4] = 0)),
      corruptWith(/timeline 0/),
    );
    assert.throws(
      damaged((bytes) => (bytes[page + 9] = 1)),
      corruptWith(/page of 0\/500100/),
    );
    assert.throws(
      damaged((bytes) => bytes.writeUInt32LE(7, page + 16)),
      corruptWith(/continues 7 bytes/),
    );
  });

  it('checks the long header', () => {
    const builder = builderAt(5 * SEGMENT);
    builder.append(message(10));
    const other = new WalStreamDecoder({ startLsn: builder.startLsn, segSize: SEGMENT, systemId: 1n });
    assert.throws(() => decode(other, builder.bytes, [10]), corruptWith(/system 1311768467463790320, not 1/));
    const bytes = builder.bytes;
    bytes.writeUInt32LE(2 * SEGMENT, 32);
    const decoder = new WalStreamDecoder({ startLsn: builder.startLsn, ...identity });
    assert.throws(() => decode(decoder, bytes, [10]), corruptWith(/segment size/));
  });

  it('stays failed', () => {
    const decoder = new WalStreamDecoder({ startLsn: lsn(5 * SEGMENT + 1000), ...identity });
    decoder.feed(new Uint8Array(100));
    assert.throws(() => decoder.next(), corruptWith(/zeros/));
    assert.throws(() => decoder.next(), corruptWith(/zeros/));
    assert.equal(decoder.recordEndLsn, 5 * SEGMENT + 1000);
  });

  it('never gives a record that was not written', () => {
    const builder = builderAt(6 * SEGMENT - 9000);
    for (let index = 0; index < 30; index++) builder.append(message(index * 37, index));
    const { bytes } = builder;
    const hex = (record: Uint8Array): string => Buffer.from(record).toString('hex');
    const known = new Set(builder.records.map(({ record }) => hex(record)));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        const changed = Buffer.from(bytes);
        changed[at]! ^= mask;
        const decoder = new WalStreamDecoder({ startLsn: builder.startLsn, ...identity });
        decoder.feed(changed);
        try {
          while (decoder.next()) assert.ok(known.has(hex(seenBy(decoder).record)));
        } catch (error) {
          corruptWith(/./)(error);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('answers noise with an error, and does not take its lengths at their word', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 300 }), (noise) => {
        const decoder = new WalStreamDecoder({ startLsn: lsn(5 * SEGMENT + 40), ...identity });
        decoder.feed(noise);
        try {
          assert.equal(decoder.next(), false);
        } catch (error) {
          corruptWith(/./)(error);
        }
      }),
    );
  });
});

describe('end of WAL', () => {
  it('is the end of the last whole record, wherever the tail is torn', async () => {
    const builder = builderAt(5 * SEGMENT + 100_000);
    for (const length of [10, 20_000, 0, 300, 9000]) builder.append(message(length));
    const { bytes } = builder;
    for (let cut = 1; cut < bytes.length; cut += 97) {
      const file = Buffer.alloc(bytes.length + 50_000);
      bytes.copy(file, 0, 0, cut);
      const read = (at: Lsn): Uint8Array => file.subarray(at - builder.startLsn, at - builder.startLsn + 8192);
      const found = await findEndOfWal({ startLsn: builder.startLsn, ...identity, read });
      // Padding of a record that is cut off is zeros anyway: then the record is whole.
      const whole = builder.records.filter(({ endLsn }) => Math.floor((builder.startLsn + cut + 7) / 8) * 8 >= endLsn);
      const last = whole.at(-1);
      assert.equal(found.endLsn, last?.endLsn ?? builder.startLsn);
      assert.equal(found.lastRecordLsn, last?.startLsn ?? 0);
    }
  });
});

describe('block references', () => {
  /** Two blocks of one relation, the first with data, the second with a page image and a hole; then 3 bytes of main data. */
  function blockRecord(): Uint8Array {
    const head = Buffer.alloc(20 + 13 + 2);
    head.writeUInt8(0, 0);
    head.writeUInt8(0x20, 1);
    head.writeUInt16LE(5, 2);
    head.writeUInt32LE(1663, 4);
    head.writeUInt32LE(5, 8);
    head.writeUInt32LE(16384, 12);
    head.writeUInt32LE(77, 16);
    head.writeUInt8(2, 20);
    head.writeUInt8(0x92, 21);
    head.writeUInt16LE(0, 22);
    head.writeUInt16LE(192, 24);
    head.writeUInt16LE(100, 26);
    head.writeUInt8(0x03, 28);
    head.writeUInt32LE(88, 29);
    head.writeUInt8(255, 33);
    head.writeUInt8(3, 34);
    return Buffer.concat([head, Buffer.from('data!'), Buffer.alloc(192, 'i'), Buffer.from('end')]);
  }

  function decodeBody(body: Uint8Array): WalStreamDecoder {
    const builder = builderAt(5 * SEGMENT + 40);
    builder.appendBody({ rmid: RM_HEAP, info: 0, xid: 9, body });
    const decoder = new WalStreamDecoder({ startLsn: builder.startLsn, ...identity });
    decoder.feed(builder.bytes);
    assert.equal(decoder.next(), true);
    return decoder;
  }

  it('are decoded', () => {
    const { record } = decodeBody(blockRecord());
    const text = (at: number, length: number): string => Buffer.from(record.bytes.subarray(at, at + length)).toString();
    assert.equal(record.maxBlockId, 2);
    assert.deepEqual([...record.blockPresent.subarray(0, 3)], [1, 0, 1]);
    assert.equal(text(record.blockDataOffset[0]!, record.blockDataLength[0]!), 'data!');
    assert.deepEqual([record.blockSpc[2], record.blockDb[2], record.blockRel[2]], [1663, 5, 16384]);
    assert.deepEqual([record.blockNumber[0], record.blockNumber[2]], [77, 88]);
    assert.deepEqual([record.blockFork[0], record.blockFork[2]], [0, 2]);
    assert.deepEqual([record.blockHasImage[0], record.blockHasImage[2], record.blockApplyImage[2]], [0, 1, 1]);
    assert.equal(text(record.imageOffset[2]!, record.imageLength[2]!), 'i'.repeat(192));
    assert.deepEqual([record.imageHoleOffset[2], record.imageHoleLength[2]], [100, 8000]);
    assert.equal(text(record.mainDataOffset, record.mainDataLength), 'end');
  });

  it('stay within the record whatever the bytes are', () => {
    const body = blockRecord();
    fc.assert(
      fc.property(fc.nat(34), fc.nat(255), fc.nat(40), (at, value, cut) => {
        const changed = Buffer.from(body.subarray(0, body.length - cut));
        changed[at] = value;
        try {
          const { record } = decodeBody(changed);
          const end = record.offset + record.totalLength;
          assert.equal(record.mainDataOffset + record.mainDataLength, end);
          for (let id = 0; id <= record.maxBlockId; id++) {
            if (record.blockPresent[id] === 0) continue;
            assert.ok(record.imageOffset[id]! + record.imageLength[id]! <= end);
            assert.ok(record.blockDataOffset[id]! + record.blockDataLength[id]! <= end);
            assert.ok(record.imageHoleOffset[id]! + record.imageHoleLength[id]! <= 8192);
          }
        } catch (error) {
          corruptWith(/./)(error);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
