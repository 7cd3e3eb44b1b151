import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '../core/lsn.js';
import { encodeLogicalMessage } from './logical-message.js';
import { MainDataReader } from './main-data-reader.js';
import { RM_LOGICALMSG } from './rmgr.js';
import { recordStart } from './wal-layout.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';
import { layOutRecord } from './wal-synthesis.js';

const SEG_SIZE = 1024 * 1024;
const IDENTITY = { systemId: 7n, segSize: SEG_SIZE };

describe('logical messages', () => {
  it('one behind the other read as WAL, over pages and segments', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 5, max: 20_000 }),
        fc.array(fc.integer({ min: 0, max: 30_000 }), { minLength: 1, maxLength: 6 }),
        (back, lengths) => {
          const wanted = lsn(16 * SEG_SIZE - back * 8);
          const from = wanted % 8192 < 40 ? lsn(wanted - (wanted % 8192)) : wanted;
          const decoder = new WalStreamDecoder({ startLsn: from, segSize: SEG_SIZE, systemId: 7n });
          let at = from;
          let prevLsn = lsn(from - 8);
          for (const [i, length] of lengths.entries()) {
            const content = new Uint8Array(length).fill(i + 1);
            const laid = layOutRecord(encodeLogicalMessage({ prefix: `p${i}`, content, prevLsn }), at, IDENTITY);
            prevLsn = recordStart(at, SEG_SIZE);
            decoder.feed(laid.bytes);
            assert.ok(decoder.next());
            const { record } = decoder;
            assert.deepEqual([record.startLsn, record.rmid, record.xid], [prevLsn, RM_LOGICALMSG, 0]);
            const reader = new MainDataReader(record);
            assert.deepEqual([reader.u32(), reader.u32(), reader.u64(), reader.u64()], [0, 0, 3, length]);
            assert.equal(reader.cstring(), `p${i}`);
            const start = reader.take(length);
            assert.deepEqual(record.bytes.subarray(start, start + length), content);
            assert.equal(reader.bytesLeft, 0);
            at = laid.endLsn;
          }
          assert.equal(decoder.recordEndLsn, at);
        },
      ),
      { numRuns: 60 },
    );
  });
});
