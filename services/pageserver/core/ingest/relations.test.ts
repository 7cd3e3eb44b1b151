import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { RM_SMGR, RM_XACT, RM_XLOG, XLOG_FPI } from '#shared/postgres/rmgr.js';
import { FORK_FSM, FORK_INIT, FORK_MAIN, FORK_VM, type RelTag } from '../keyspace.js';
import { words } from '../testing/made-record.js';
import { MadeTimeline } from '../testing/new-timeline.js';

const BLOCK = 8192;
const CREATE = 0x10;
const TRUNCATE = 0x20;
const COMMIT_WITH_INFO = 0x80;
const HAS_RELATIONS = 4;

const table: RelTag = { spc: 1663, db: 5, rel: 20000, fork: FORK_MAIN };

/** An LSN-less page (as a map page or a hash bitmap may be) that says what was written. */
function pageOf(mark: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(mark, 100, 200);
}

function fullPage(rel: RelTag, block: number, mark: number) {
  return { rmid: RM_XLOG, info: XLOG_FPI, blocks: [{ rel, block, image: pageOf(mark) }] };
}

function create(rel: RelTag) {
  return { rmid: RM_SMGR, info: CREATE, mainData: words(rel.spc, rel.db, rel.rel, rel.fork) };
}

function truncate(rel: RelTag, blocks: number, flags = 7) {
  return { rmid: RM_SMGR, info: TRUNCATE, mainData: words(blocks, rel.spc, rel.db, rel.rel, flags) };
}

/** A commit that drops the relation: i64 time, xinfo, count, relation. */
function drop(rel: RelTag) {
  const mainData = words(0, 0, HAS_RELATIONS, 1, rel.spc, rel.db, rel.rel);
  return { rmid: RM_XACT, info: COMMIT_WITH_INFO, xid: 800, mainData };
}

describe('relations', () => {
  let timeline: MadeTimeline;
  beforeEach(async () => {
    timeline = await MadeTimeline.create();
  });
  const markAt = async (rel: RelTag, block: number, at: Lsn): Promise<number> =>
    (await timeline.view.page(rel, block, at))[100]!;

  it('exist from their creation on, and again and again', async () => {
    const before = await timeline.write({ rmid: RM_XLOG, info: 0x20 });
    const created = await timeline.write(create(table));
    await timeline.write(fullPage(table, 0, 1));
    const again = await timeline.write(create(table));
    assert.equal(await timeline.view.relSize(table, before), null);
    assert.equal(await timeline.view.relSize(table, created), 0);
    assert.equal(await timeline.view.relSize(table, again), 1);
    await assert.rejects(timeline.view.page(table, 0, before), /relation not found: 1663\/5\/20000/);
    assert.deepEqual(
      (await timeline.view.databases(created)).map(({ db }) => db),
      [5, 0],
    );
  });

  it('appear with their first block, zeros before it', async () => {
    const end = await timeline.write(fullPage(table, 3, 9));
    assert.equal(await timeline.view.relSize(table, end), 4);
    assert.equal(await markAt(table, 2, end), 0);
    assert.equal(await markAt(table, 3, end), 9);
    assert.equal(await markAt(table, 4, end), 0);
  });

  it('never show what they had before a truncation', async () => {
    for (let block = 0; block < 6; block++) await timeline.write(fullPage(table, block, block + 1));
    const cut = await timeline.write(truncate(table, 2));
    const regrown = await timeline.write(fullPage(table, 5, 77));
    assert.equal(await timeline.view.relSize(table, cut), 2);
    assert.equal(await markAt(table, 3, cut), 0);
    assert.equal(await timeline.view.relSize(table, regrown), 6);
    assert.deepEqual(
      await Promise.all([0, 1, 2, 3, 4, 5].map((block) => markAt(table, block, regrown))),
      [1, 2, 0, 0, 0, 77],
    );
  });

  it('never show what they had before a drop', async () => {
    for (let block = 0; block < 3; block++) await timeline.write(fullPage(table, block, block + 1));
    await timeline.write(fullPage({ ...table, fork: FORK_INIT }, 0, 5));
    const dropped = await timeline.write(drop(table));
    assert.equal(await timeline.view.relSize(table, dropped), null);
    assert.equal(await timeline.view.relSize({ ...table, fork: FORK_INIT }, dropped), null);
    await timeline.reopen();
    const reused = await timeline.write(fullPage(table, 2, 50));
    assert.deepEqual(await Promise.all([0, 1, 2].map((block) => markAt(table, block, reused))), [0, 0, 50]);
    assert.equal(await timeline.view.relSize({ ...table, fork: FORK_INIT }, reused), null);
  });

  it('cannot be made longer by a truncation', async () => {
    await timeline.write(fullPage(table, 0, 1));
    const end = await timeline.write(truncate(table, 10));
    assert.equal(await timeline.view.relSize(table, end), 1);
  });

  it('lose free space and visibility beyond the cut', async () => {
    const fsm = { ...table, fork: FORK_FSM };
    const map = { ...table, fork: FORK_VM };
    for (let block = 0; block < 5; block++) await timeline.write(fullPage(fsm, block, 1));
    for (let block = 0; block < 3; block++) {
      const image = new Uint8Array(BLOCK).fill(0xff, 24);
      image[15] = 0x20;
      await timeline.write({ rmid: RM_XLOG, info: XLOG_FPI, blocks: [{ rel: map, block, image }] });
    }
    await timeline.write(fullPage(table, 40_000, 1));
    // The first leaf page is block 2 of the free space map; heap block 4070 is in the second.
    const end = await timeline.write(truncate(table, 4070));
    assert.equal(await timeline.view.relSize(table, end), 4070);
    assert.equal(await timeline.view.relSize(fsm, end), 4);
    assert.equal(await markAt(fsm, 2, end), 1);
    assert.equal(await markAt(fsm, 3, end), 0);
    assert.equal(await timeline.view.relSize(map, end), 1);
    const bits = await timeline.view.page(map, 0, end);
    // 4070 blocks: 1017 bytes of four, then two.
    assert.deepEqual([...bits.subarray(24 + 1015, 24 + 1020)], [0xff, 0xff, 0x0f, 0, 0]);
    assert.equal(bits[BLOCK - 1], 0);
  });

  it('refuse a block that is absurdly far out', async () => {
    await assert.rejects(
      timeline.write(fullPage(table, 0xffff_fff0, 1)),
      (error) => error instanceof StorageError && error.kind === 'corrupt',
    );
  });

  it('do not change at a spurious clearing of visibility bits', async () => {
    const mainData = Uint8Array.of(1, 0, 1);
    await timeline.write({
      rmid: 10,
      info: 0x80,
      xid: 900,
      mainData,
      blocks: [{ rel: table, block: 0, willInit: true }],
    });
    assert.equal(timeline.warnings.length, 1);
    assert.equal(await timeline.view.relSize({ ...table, fork: FORK_VM }, timeline.store.lastRecordLsn), null);
  });

  it('agree with a plain model of the files, also after restarts', async () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('write' as const),
        rel: fc.integer({ min: 1, max: 3 }),
        block: fc.integer({ min: 0, max: 8 }),
      }),
      fc.record({
        kind: fc.constant('truncate' as const),
        rel: fc.integer({ min: 1, max: 3 }),
        block: fc.integer({ min: 0, max: 8 }),
      }),
      fc.record({
        kind: fc.constantFrom('create' as const, 'drop' as const, 'reopen' as const),
        rel: fc.integer({ min: 1, max: 3 }),
        block: fc.constant(0),
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const made = await MadeTimeline.create();
        let files = new Map<number, number[]>();
        const history: Array<{ at: Lsn; files: Map<number, number[]> }> = [];
        let mark = 0;
        for (const { kind, rel, block } of steps) {
          const tag = { ...table, rel };
          files = new Map([...files].map(([key, blocks]) => [key, [...blocks]]));
          let at: Lsn = lsn(0);
          if (kind === 'reopen') await made.reopen();
          else if (kind === 'create') {
            at = await made.write(create(tag));
            if (!files.has(rel)) files.set(rel, []);
          } else if (kind === 'drop') {
            at = await made.write(drop(tag));
            files.delete(rel);
          } else if (kind === 'truncate') {
            at = await made.write(truncate(tag, block));
            files.set(rel, (files.get(rel) ?? []).slice(0, block));
          } else {
            mark = (mark % 250) + 1;
            at = await made.write(fullPage(tag, block, mark));
            const blocks = files.get(rel) ?? [];
            while (blocks.length <= block) blocks.push(0);
            blocks[block] = mark;
            files.set(rel, blocks);
          }
          if (at !== 0) history.push({ at, files });
        }
        for (const { at, files: wanted } of history) {
          for (let rel = 1; rel <= 3; rel++) {
            const tag = { ...table, rel };
            const blocks = wanted.get(rel);
            assert.equal(await made.view.relSize(tag, at), blocks?.length ?? null);
            for (let block = 0; block < (blocks?.length ?? 0); block++) {
              assert.equal((await made.view.page(tag, block, at))[100], blocks?.[block]);
            }
          }
        }
        const last = history.at(-1);
        const total = [...(last?.files.values() ?? [])].reduce((sum, blocks) => sum + blocks.length, 0);
        assert.equal(made.ingest.logicalSizeBytes, total * BLOCK);
      }),
      { numRuns: 60 },
    );
  });
});
