import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { lsn } from '../core/lsn.js';
import * as layout from './page-layout.js';

describe('page layout', () => {
  it('keeps the LSN, high half first', () => {
    const page = new Uint8Array(8192);
    const view = new DataView(page.buffer);
    layout.writePageLsn(view, lsn(0x16_b374_d848));
    assert.equal(Buffer.from(page.subarray(0, 8)).toString('hex'), '1600000048d874b3');
    assert.equal(layout.readPageLsn(view), 0x16_b374_d848);
  });

  it('makes empty pages', () => {
    const page = new Uint8Array(8192).fill(0xff);
    const view = new DataView(page.buffer);
    layout.initPage(page, view, 16);
    assert.ok(layout.pageHeaderValid(view));
    assert.ok(!layout.isNewPage(view));
    assert.equal(layout.itemCount(view), 0);
    assert.deepEqual(
      [view.getUint16(12, true), view.getUint16(14, true), view.getUint16(18, true)],
      [24, 8176, 0x2004],
    );
    page.fill(0);
    assert.ok(layout.isNewPage(view) && layout.itemCount(view) === 0);
  });

  it('packs line pointers', () => {
    fc.assert(
      fc.property(fc.nat(32767), fc.nat(3), fc.nat(32767), (offset, flags, length) => {
        const packed = layout.makeLinePointer(offset, flags, length);
        assert.equal(layout.linePointerOffset(packed), offset);
        assert.equal(layout.linePointerFlags(packed), flags);
        assert.equal(layout.linePointerLength(packed), length);
        assert.ok(packed >= 0);
      }),
    );
  });
});
