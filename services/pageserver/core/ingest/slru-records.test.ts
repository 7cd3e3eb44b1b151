import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import type { Lsn } from '#shared/core/lsn.js';
import { RM_CLOG, RM_MULTIXACT, RM_XACT } from '#shared/postgres/rmgr.js';
import { getXactStatus } from '#shared/postgres/slru.js';
import { SLRU_CLOG, SLRU_MULTIXACT_MEMBERS, SLRU_MULTIXACT_OFFSETS, type SlruKind } from '../keyspace.js';
import { words } from '../testing/made-record.js';
import { MadeTimeline } from '../testing/new-timeline.js';

const ZERO_PAGE = 0x00;
const ZERO_MEMBERS = 0x10;
const CREATE_ID = 0x20;
const TRUNCATE_ID = 0x30;
const CLOG_TRUNCATE = 0x10;
const PAGES = 32;

describe('SLRU records', () => {
  let timeline: MadeTimeline;
  beforeEach(async () => {
    timeline = await MadeTimeline.create();
  });

  async function segments(kind: SlruKind, at: Lsn): Promise<string> {
    return (await timeline.view.slruSegments(kind, at)).map(({ segno, pages }) => `${segno}:${pages}`).join(' ');
  }
  const zero = (kind: SlruKind, page: number): Promise<Lsn> =>
    timeline.write({
      rmid: kind === SLRU_CLOG ? RM_CLOG : RM_MULTIXACT,
      info: kind === SLRU_MULTIXACT_MEMBERS ? ZERO_MEMBERS : ZERO_PAGE,
      mainData: words(page),
    });
  const createMulti = (multi: number, first: number, ...xids: number[]): Promise<Lsn> =>
    timeline.write({
      rmid: RM_MULTIXACT,
      info: CREATE_ID,
      mainData: words(multi, first, xids.length, ...xids.flatMap((xid) => [xid, 1])),
    });
  const truncateMulti = (start: number, end: number, startMember: number, endMember: number): Promise<Lsn> =>
    timeline.write({ rmid: RM_MULTIXACT, info: TRUNCATE_ID, mainData: words(1, start, end, startMember, endMember) });
  async function word(kind: SlruKind, segno: number, byte: number, at: Lsn): Promise<number> {
    return Buffer.from((await timeline.view.slruSegment(kind, segno, at)) ?? []).readUInt32LE(byte);
  }

  it('make pages, with zeros in between', async () => {
    await zero(SLRU_CLOG, 0);
    const end = await zero(SLRU_CLOG, 3);
    assert.equal(await segments(SLRU_CLOG, end), '0:4');
    assert.equal((await timeline.view.slruSegment(SLRU_CLOG, 0, end))?.length, 4 * 8192);
    assert.equal(await timeline.view.slruSegment(SLRU_CLOG, 1, end), null);
    assert.equal(await segments(SLRU_CLOG, await zero(SLRU_CLOG, PAGES)), '0:4 1:1');
  });

  it('a commit sets its subtransactions on the pages where they are', async () => {
    await zero(SLRU_CLOG, 0);
    // xinfo 2: subtransactions follow.
    const mainData = words(0, 0, 2, 3, 32767, 32768, 40000);
    const end = await timeline.write({ rmid: RM_XACT, info: 0x80, xid: 32766, mainData });
    const clog = (await timeline.view.slruSegment(SLRU_CLOG, 0, end)) ?? new Uint8Array(0);
    const status = (xid: number): number => getXactStatus(clog.subarray(Math.floor(xid / 32768) * 8192), xid);
    assert.deepEqual([32765, 32766, 32767, 32768, 32769, 40000].map(status), [0, 1, 1, 1, 0, 1]);
  });

  it('an abort is marked as such', async () => {
    const end = await timeline.write({ rmid: RM_XACT, info: 0x20, xid: 1000, mainData: words(0, 0) });
    assert.equal(getXactStatus((await timeline.view.slruSegment(SLRU_CLOG, 0, end)) ?? new Uint8Array(0), 1000), 2);
  });

  it('forgets pg_xact segments older than the cut, also around the end of the xid circle', async () => {
    for (const segno of [0, 1, 2, 4095]) await zero(SLRU_CLOG, segno * PAGES);
    const truncate = (page: number): Promise<Lsn> =>
      timeline.write({ rmid: RM_CLOG, info: CLOG_TRUNCATE, mainData: words(page, page * 32768, 5) });
    assert.equal(await segments(SLRU_CLOG, await truncate(PAGES + 5)), '1:1 2:1');
    const end = await truncate(2 * PAGES);
    assert.equal(await segments(SLRU_CLOG, end), '2:1');
    const again = await zero(SLRU_CLOG, PAGES);
    assert.equal(await segments(SLRU_CLOG, again), '1:1 2:1');
  });

  it('keeps exactly the pg_xact segments that a page-by-page look keeps', () => {
    // A segment goes when all of its xids are older than every xid of the cut's page (slow twin: by xid distance).
    const older = (xid: number, than: number): boolean => ((xid - than) | 0) < 0;
    return fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.integer({ min: 0, max: 4095 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 0, max: 131071 }),
        async (segnos, page) => {
          const made = await MadeTimeline.create();
          for (const segno of segnos) {
            await made.write({ rmid: RM_CLOG, info: ZERO_PAGE, mainData: words(segno * PAGES) });
          }
          const end = await made.write({ rmid: RM_CLOG, info: CLOG_TRUNCATE, mainData: words(page, 3, 5) });
          const kept = segnos.filter((segno) => {
            const ends = [segno * PAGES, segno * PAGES + PAGES - 1];
            return !ends.every((own) =>
              [4, 32767 + 4].every((offset) => older((own * 32768 + 4) >>> 0, (page * 32768 + offset) >>> 0)),
            );
          });
          const found = await made.view.slruSegments(SLRU_CLOG, end);
          assert.deepEqual(
            found.map(({ segno }) => segno),
            kept.sort((a, b) => a - b),
          );
        },
      ),
      { numRuns: 100 },
    );
  });

  it('a multixact writes its own and the next offset, and its members', async () => {
    await zero(SLRU_MULTIXACT_OFFSETS, 0);
    await zero(SLRU_MULTIXACT_MEMBERS, 0);
    await createMulti(1, 1, 701, 702);
    const end = await createMulti(2, 3, 703, 704, 705);
    assert.deepEqual(
      await Promise.all([4, 8, 12].map((byte) => word(SLRU_MULTIXACT_OFFSETS, 0, byte, end))),
      [1, 3, 6],
    );
    // Member 1 is the second of group 0: four status bytes, then xids.
    assert.equal(await word(SLRU_MULTIXACT_MEMBERS, 0, 8, end), 701);
    const { checkPoint } = await timeline.view.tracker(end);
    assert.deepEqual([checkPoint.nextMulti, checkPoint.nextMultiOffset], [3, 6]);
  });

  it('keeps what the last multixact of a page wrote on the next, when an old server logs that page late', async () => {
    await zero(SLRU_MULTIXACT_OFFSETS, 0);
    await createMulti(2047, 9, 701);
    await zero(SLRU_MULTIXACT_OFFSETS, 1);
    const end = await timeline.write({ rmid: 0, info: 0x20 });
    assert.equal(await word(SLRU_MULTIXACT_OFFSETS, 0, 8192, end), 10);
  });

  it('splits members over the wrap of their numbers', async () => {
    const end = await createMulti(5, 0xffff_ffff, 711, 712);
    const last = Math.floor(0xffff_ffff / 1636);
    assert.equal(await segments(SLRU_MULTIXACT_MEMBERS, end), `0:1 ${Math.floor(last / PAGES)}:${(last % PAGES) + 1}`);
    assert.equal((await timeline.view.tracker(end)).checkPoint.nextMultiOffset, 1);
    assert.equal(await word(SLRU_MULTIXACT_MEMBERS, 0, 4, end), 712);
  });

  it('forgets member segments in a circle and offsets by age', async () => {
    const last = Math.floor(Math.floor(0xffff_ffff / 1636) / PAGES);
    for (const segno of [last, 0, 1, 2]) await zero(SLRU_MULTIXACT_MEMBERS, segno * PAGES);
    for (const segno of [0, 1, 2]) await zero(SLRU_MULTIXACT_OFFSETS, segno * PAGES);
    const perSegment = 1636 * PAGES;
    const end = await truncateMulti(10, 2 * 65536 + 1, last * perSegment, perSegment + 7);
    assert.match(await segments(SLRU_MULTIXACT_MEMBERS, end), /^1:\d+ 2:\d+$/);
    assert.equal(await segments(SLRU_MULTIXACT_OFFSETS, end), '2:1');
    // The page of the last multixact that goes stays: its segment holds it.
    assert.equal(
      await segments(SLRU_MULTIXACT_OFFSETS, await truncateMulti(10, 3 * 65536, perSegment, perSegment)),
      '2:1',
    );
  });

  it('refuses pages and lists that cannot be', async () => {
    await assert.rejects(zero(SLRU_CLOG, 1 << 17), /no SLRU page/);
    await assert.rejects(zero(SLRU_MULTIXACT_MEMBERS, 0x7fff_ffff), /no members page/);
    await assert.rejects(
      timeline.write({ rmid: RM_MULTIXACT, info: CREATE_ID, mainData: words(7, 0, 3, 700, 1) }),
      /does not fit/,
    );
    await assert.rejects(timeline.write({ rmid: RM_CLOG, info: 0x30, mainData: words(0) }), /no such pg_xact record/);
  });
});
