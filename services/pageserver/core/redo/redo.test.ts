import assert from 'node:assert/strict';
import { lsn } from '#shared/core/lsn.js';
import { PD_UPPER } from '#shared/postgres/page-layout.js';
import { RM_GIST, RM_HEAP, RM_XLOG, XLOG_FPI, XLOG_FPI_FOR_HINT } from '#shared/postgres/rmgr.js';
import { BKPBLOCK_WILL_INIT, WalRecord } from '#shared/postgres/wal-record.js';
import { encodeZeroPage } from './neon-records.js';
import { reconstructPage } from './redo.js';
import { changesNothing, encodeSlimRecord, slimWillInit } from './slim-record.js';

const HEAP_INSERT = 0x00;
const HEAP_DELETE = 0x10;
const INIT_PAGE = 0x80;

/** A record with one block reference. */
function makeRecord(fields: {
  rmid: number;
  info: number;
  main?: Uint8Array;
  data?: Uint8Array;
  image?: Uint8Array;
  apply?: boolean;
}): WalRecord {
  const { main = new Uint8Array(0), data = new Uint8Array(0), image = new Uint8Array(0) } = fields;
  const record = new WalRecord();
  record.bytes = Uint8Array.from([...image, ...data, ...main]);
  record.view = new DataView(record.bytes.buffer);
  record.rmid = fields.rmid;
  record.info = fields.info;
  record.xid = 700;
  record.maxBlockId = 0;
  record.blockPresent[0] = 1;
  record.blockNumber[0] = 70000;
  record.blockFlags[0] = fields.info & INIT_PAGE && fields.rmid === RM_HEAP ? BKPBLOCK_WILL_INIT : 0;
  record.blockDataOffset[0] = image.length;
  record.blockDataLength[0] = data.length;
  record.mainDataOffset = image.length + data.length;
  record.mainDataLength = main.length;
  if (image.length > 0) {
    record.blockHasImage[0] = 1;
    record.blockApplyImage[0] = fields.apply === false ? 0 : 1;
    record.imageLength[0] = image.length;
    record.imageHoleOffset[0] = image.length < 8192 ? 100 : 0;
    record.imageHoleLength[0] = 8192 - image.length;
  }
  return record;
}

/** infomask2 1, infomask 0x0902, header 24 bytes; one pad byte, then the row's data. */
function insertRecord(line: number, info = HEAP_INSERT): WalRecord {
  return makeRecord({
    rmid: RM_HEAP,
    info,
    main: Uint8Array.of(line, 0, 0),
    data: Uint8Array.of(1, 0, 0x02, 0x09, 24, 0, 0xaa, 0xbb, 0xcc, 0xdd),
  });
}

const first = { endLsn: lsn(0x1_0000_0100), value: encodeSlimRecord(insertRecord(1, INIT_PAGE), 0) };

describe('reconstructPage', () => {
  it('makes a page from a record that needs none before', () => {
    assert.ok(slimWillInit(first.value));
    const page = reconstructPage(null, [first]);
    const view = new DataView(page.buffer);
    assert.equal(page.length, 8192);
    assert.deepEqual([view.getUint32(0, true), view.getUint32(4, true)], [1, 0x100]);
    assert.equal(view.getUint16(PD_UPPER, true), 8192 - 32);
    const row = 8192 - 32;
    assert.equal(view.getUint32(row, true), 700);
    assert.deepEqual([...page.subarray(row + 12, row + 18)], [1, 0, 70000 & 0xff, (70000 >> 8) & 0xff, 1, 0]);
    assert.deepEqual([...page.subarray(row + 24, row + 28)], [0xaa, 0xbb, 0xcc, 0xdd]);
  });

  it('does not change base or values, and starts at the last record that needs nothing older', () => {
    const second = { endLsn: lsn(0x200), value: encodeSlimRecord(insertRecord(2), 0) };
    const base = reconstructPage(null, [first]);
    const copies = [base.slice(), second.value.slice()];
    const page = reconstructPage(base, [second]);
    assert.deepEqual([base, second.value], copies);
    assert.deepEqual(reconstructPage(null, [first, second]), page);
    const nonsense = { endLsn: lsn(1), value: Uint8Array.of(1, 0, 99, 0, 0, 1) };
    assert.deepEqual(reconstructPage(base, [nonsense, first, second]), page);
    assert.deepEqual(reconstructPage(base, [first, { endLsn: lsn(2), value: encodeZeroPage() }]), new Uint8Array(8192));
  });

  it('restores the image with its hole; an image of a page in use gets the LSN, a new page stays zeros', () => {
    const image = Uint8Array.from({ length: 8192 - 50 }, (_, i) => i % 251);
    const value = encodeSlimRecord(makeRecord({ rmid: RM_XLOG, info: XLOG_FPI, image }), 0);
    const page = reconstructPage(null, [{ endLsn: lsn(0x1234_5678), value }]);
    assert.ok(slimWillInit(value) && value.length === 8 + 8192 - 50);
    assert.deepEqual([...page.subarray(98, 152)], [98, 99, ...new Array<number>(50).fill(0), 100, 101]);
    assert.equal(new DataView(page.buffer).getUint32(4, true), 0x1234_5678);
    const zeros = encodeSlimRecord(makeRecord({ rmid: RM_XLOG, info: XLOG_FPI, image: new Uint8Array(8192) }), 0);
    assert.deepEqual(reconstructPage(null, [{ endLsn: lsn(8), value: zeros }]), new Uint8Array(8192));
  });

  it('completes the split of a GiST page even when its image was in the record', () => {
    const image = new Uint8Array(8192);
    const view = new DataView(image.buffer);
    for (const [at, value] of [
      [12, 24],
      [14, 8176],
      [16, 8176],
      [18, 0x2004],
      [8188, 0x0009],
      [8190, 0xff81],
    ] as const) {
      view.setUint16(at, value, true);
    }
    const record = makeRecord({ rmid: RM_GIST, info: 0x30, image });
    const page = reconstructPage(null, [{ endLsn: lsn(0x5_0000_0123), value: encodeSlimRecord(record, 0) }]);
    const after = new DataView(page.buffer);
    assert.deepEqual([after.getUint32(8176, true), after.getUint32(8180, true)], [5, 0x123]);
    assert.equal(after.getUint16(8188, true), 0x0001);
  });

  it('stores of a logical delete what redo reads, not the old row', () => {
    const main = new Uint8Array(200);
    assert.equal(encodeSlimRecord(makeRecord({ rmid: RM_HEAP, info: HEAP_DELETE, main }), 0).length, 12 + 4 + 8);
  });

  it('knows hint records without an image', () => {
    const hint = makeRecord({ rmid: RM_XLOG, info: XLOG_FPI_FOR_HINT });
    assert.ok(changesNothing(hint, 0));
    const base = reconstructPage(null, [first]);
    assert.deepEqual(reconstructPage(base, [{ endLsn: lsn(9), value: encodeSlimRecord(hint, 0) }]), base);
    assert.throws(() => encodeSlimRecord(makeRecord({ rmid: RM_XLOG, info: XLOG_FPI }), 0), { kind: 'corrupt' });
  });

  it('says which record does not fit', () => {
    const onEmpty = { endLsn: lsn(0x10_0000_0abc), value: encodeSlimRecord(insertRecord(1), 0) };
    assert.throws(() => reconstructPage(null, [onEmpty]), {
      kind: 'corrupt',
      message: /Heap info 0, block id 0.*10\/ABC/,
    });
    assert.throws(() => reconstructPage(null, [first, { ...onEmpty }]), {
      kind: 'corrupt',
      message: /line pointer 1 is in use/,
    });
    assert.throws(() => reconstructPage(new Uint8Array(100), []), { kind: 'corrupt' });
    const foreign = { endLsn: lsn(8), value: encodeSlimRecord(makeRecord({ rmid: 130, info: 0 }), 0) };
    assert.throws(() => reconstructPage(null, [foreign]), { kind: 'unimplemented', message: /custom 130/ });
    for (const value of [new Uint8Array(0), Uint8Array.of(1, 0), Uint8Array.of(9, 0, 0), Uint8Array.of(200, 0)]) {
      assert.throws(() => reconstructPage(null, [{ endLsn: lsn(8), value }]), {
        name: 'StorageError',
        kind: 'corrupt',
      });
    }
  });
});
