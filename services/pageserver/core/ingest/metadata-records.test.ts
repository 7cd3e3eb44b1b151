import { strict as assert } from 'node:assert';
import {
  RM_DBASE,
  RM_HEAP2,
  RM_RELMAP,
  RM_SMGR,
  RM_TBLSPC,
  RM_XLOG,
  XLOG_FPI,
  XLOG_NEXTOID,
} from '#shared/postgres/rmgr.js';
import { FORK_INIT, FORK_VM } from '../keyspace.js';
import { words } from '../testing/made-record.js';
import { FIRST_STATE, MadeTimeline } from '../testing/new-timeline.js';

const CREATE_FILE_COPY = 0x00;
const CREATE_WAL_LOG = 0x10;
const DROP = 0x20;
const RELMAP_BYTES = 512;

describe('records about databases and counters', () => {
  let timeline: MadeTimeline;
  beforeEach(async () => {
    timeline = await MadeTimeline.create();
  });
  const nothing = () => timeline.write({ rmid: RM_XLOG, info: 0x20 });
  const databases = async (at = timeline.store.lastRecordLsn): Promise<string[]> =>
    (await timeline.view.databases(at)).map(({ spc, db, relationMap }) => `${spc}/${db}:${relationMap?.[0] ?? '-'}`);
  const setMap = (db: number, spc: number, mark: number) => {
    const mainData = Buffer.concat([words(db, spc, RELMAP_BYTES), Buffer.alloc(RELMAP_BYTES, mark)]);
    return timeline.write({ rmid: RM_RELMAP, info: 0, mainData });
  };
  const block = (db: number, rel: number, fork: number, mark: number, number = 0) => {
    const image = new Uint8Array(8192).fill(mark, 100, 200);
    return timeline.write({
      rmid: RM_XLOG,
      info: XLOG_FPI,
      blocks: [{ rel: { spc: 1663, db, rel, fork }, block: number, image }],
    });
  };

  it('a new database is a directory first, then gets its relation map', async () => {
    const created = await timeline.write({ rmid: RM_DBASE, info: CREATE_WAL_LOG, mainData: words(9, 1663) });
    const mapped = await setMap(9, 1663, 5);
    assert.deepEqual(await databases(created), ['1663/9:-', '1664/0:0']);
    assert.deepEqual(await databases(mapped), ['1663/9:5', '1664/0:0']);
  });

  it('a copy has all relations of its source at that time, and only these', async () => {
    await setMap(7, 1663, 3);
    await block(7, 100, 0, 1);
    await block(7, 100, 0, 2, 1);
    await block(7, 101, FORK_INIT, 3);
    await block(8, 102, 0, 4);
    const copied = await timeline.write({ rmid: RM_DBASE, info: CREATE_FILE_COPY, mainData: words(8, 1663, 7, 1663) });
    await block(7, 100, 0, 99);
    const later = await nothing();
    const of = async (db: number): Promise<string[]> =>
      (await timeline.view.relations(later))
        .filter((rel) => rel.db === db)
        .map((rel) => `${rel.rel}.${rel.fork}:${rel.sizeBlocks}`);
    assert.deepEqual(await of(8), ['100.0:2', '101.3:1']);
    const copy = { spc: 1663, db: 8, rel: 100, fork: 0 };
    assert.equal((await timeline.view.page(copy, 0, later))[100], 1);
    assert.equal((await timeline.view.page(copy, 1, later))[100], 2);
    assert.deepEqual(await databases(copied), ['1663/7:3', '1663/8:3', '1664/0:0']);
    assert.equal(await timeline.view.dbSize(8, later), 3 * 8192);
  });

  it('a dropped database is gone with its relations, in the tablespaces named', async () => {
    await setMap(7, 1663, 3);
    await block(7, 100, 0, 1);
    const before = timeline.store.lastRecordLsn;
    await timeline.write({ rmid: RM_DBASE, info: DROP, mainData: words(7, 1, 1663) });
    await timeline.reopen();
    assert.deepEqual(await databases(), ['1664/0:0']);
    assert.deepEqual(await timeline.view.relations(timeline.store.lastRecordLsn), []);
    assert.equal(timeline.ingest.logicalSizeBytes, 0);
    assert.deepEqual(await databases(before), ['1663/7:3', '1664/0:0']);
  });

  it('a dropped tablespace takes its directories with it', async () => {
    await timeline.write({ rmid: RM_SMGR, info: 0x10, mainData: words(16500, 7, 200, 0) });
    assert.deepEqual(await databases(), ['1664/0:0', '16500/7:-']);
    await timeline.write({ rmid: RM_TBLSPC, info: 0x10, mainData: words(16500) });
    assert.deepEqual(await databases(), ['1664/0:0']);
  });

  it('refuses a relation map of a wrong size and a copy of nothing', async () => {
    await assert.rejects(timeline.write({ rmid: RM_RELMAP, info: 0, mainData: words(7, 1663, 4, 0) }), /has 4 bytes/);
    await assert.rejects(
      timeline.write({ rmid: RM_RELMAP, info: 0, mainData: words(7, 1663, 512, 0) }),
      /does not fit/,
    );
    const copy = timeline.write({ rmid: RM_DBASE, info: CREATE_FILE_COPY, mainData: words(8, 1663, 7, 1663) });
    await assert.rejects(copy, /does not exist/);
  });

  it('the checkpoint state is exact at every record', async () => {
    const { view } = timeline;
    const first = timeline.store.lastRecordLsn;
    const xid = await timeline.write({ rmid: RM_XLOG, info: 0x20, xid: 1000 });
    const oid = await timeline.write({ rmid: RM_XLOG, info: XLOG_NEXTOID, mainData: words(24576) });
    const same = await timeline.write({ rmid: RM_XLOG, info: 0x20, xid: 900 });
    const more = await timeline.write({ rmid: RM_XLOG, info: 0x20, xid: 1001 });
    assert.deepEqual(await view.tracker(first), FIRST_STATE);
    const with_ = (nextXid: bigint, nextOid: number) => ({
      ...FIRST_STATE,
      checkPoint: { ...FIRST_STATE.checkPoint, nextXid, nextOid },
    });
    assert.deepEqual(await view.tracker(xid), with_(1001n, 16384));
    assert.deepEqual(await view.tracker(oid), with_(1001n, 24576));
    assert.deepEqual(await view.tracker(same), with_(1001n, 24576));
    await timeline.reopen();
    assert.deepEqual(await view.tracker(more), with_(1002n, 24576));
    const after = await timeline.write({ rmid: RM_XLOG, info: 0x20, xid: 1002 });
    assert.deepEqual(await view.tracker(after), with_(1003n, 24576));
  });

  it('a map page that grows again has no old bits, although its record is no image', async () => {
    const map = { spc: 1663, db: 7, rel: 300, fork: FORK_VM };
    const image = new Uint8Array(8192).fill(0xff, 24);
    image[15] = 0x20;
    await timeline.write({ rmid: RM_XLOG, info: XLOG_FPI, blocks: [{ rel: map, block: 0, image }] });
    await timeline.write({ rmid: RM_SMGR, info: 0x20, mainData: words(0, map.spc, map.db, map.rel, 7) });
    // Heap2 visible: u32 cutoff xid, u8 flags; the map page is block 0, the heap page block 1.
    const mainData = Uint8Array.of(0, 0, 0, 0, 1);
    const heap = { rel: { ...map, fork: 0 }, block: 2, image: new Uint8Array(8192) };
    const end = await timeline.write({ rmid: RM_HEAP2, info: 0x40, mainData, blocks: [{ rel: map, block: 0 }, heap] });
    const page = await timeline.view.page(map, 0, end);
    assert.deepEqual([...page.subarray(24, 27)], [0x10, 0, 0]);
  });
});
