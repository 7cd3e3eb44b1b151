import { strict as assert } from 'node:assert';
import { RM_SMGR, RM_XLOG, XLOG_FPI } from '#shared/postgres/rmgr.js';
import { FORK_FSM, FORK_INIT, FORK_VM, type RelTag } from '../keyspace.js';
import { words } from '../testing/made-record.js';
import { MadeTimeline } from '../testing/new-timeline.js';
import { TimelineView } from './timeline-view.js';

const table: RelTag = { spc: 1663, db: 5, rel: 20000, fork: 0 };

function fullPage(rel: RelTag, block: number, mark: number) {
  const image = new Uint8Array(8192).fill(mark, 100, 200);
  return { rmid: RM_XLOG, info: XLOG_FPI, blocks: [{ rel, block, image }] };
}

describe('timeline view', () => {
  it('sees each position as it was', async () => {
    const timeline = await MadeTimeline.create();
    const first = await timeline.write(fullPage(table, 0, 1));
    const second = await timeline.write(fullPage(table, 0, 2));
    const third = await timeline.write(fullPage(table, 1, 3));
    const { view } = timeline;
    assert.deepEqual(await Promise.all([first, second, third].map((at) => view.relSize(table, at))), [1, 1, 2]);
    const marks = await Promise.all([first, second, third].map(async (at) => (await view.page(table, 0, at))[100]));
    assert.deepEqual(marks, [1, 2, 2]);
  });

  it('takes missing maps for empty, but not missing relations', async () => {
    const timeline = await MadeTimeline.create();
    const at = await timeline.write(fullPage(table, 0, 1));
    for (const fork of [FORK_FSM, FORK_VM]) {
      assert.equal(await timeline.view.relSize({ ...table, fork }, at), null);
      assert.equal(
        (await timeline.view.page({ ...table, fork }, 3, at)).every((byte) => byte === 0),
        true,
      );
    }
    await assert.rejects(
      timeline.view.page({ ...table, fork: FORK_INIT }, 0, at),
      /^StorageError: relation not found: /,
    );
  });

  it('lists by database and by fork', async () => {
    const timeline = await MadeTimeline.create();
    await timeline.write(fullPage(table, 2, 1));
    await timeline.write({ rmid: RM_SMGR, info: 0x10, mainData: words(1663, 5, 20001, FORK_INIT) });
    const at = await timeline.write(fullPage({ ...table, db: 6 }, 0, 1));
    assert.deepEqual(await timeline.view.initForks(at), [{ ...table, rel: 20001, fork: FORK_INIT, sizeBlocks: 0 }]);
    assert.equal(await timeline.view.dbSize(5, at), 3 * 8192);
    assert.equal(await timeline.view.logicalSize(at), 4 * 8192);
  });

  it('asks the head for sizes only where it knows them', async () => {
    const timeline = await MadeTimeline.create();
    const first = await timeline.write(fullPage(table, 0, 1));
    await timeline.reopen();
    const second = await timeline.write(fullPage(table, 5, 1));
    const { ingest } = timeline;
    assert.equal(ingest.relationSize(table, second), 6);
    assert.equal(ingest.relationSize(table, first), undefined);
    assert.equal(ingest.relationSize({ ...table, rel: 1 }, second), null);
    const view = new TimelineView(timeline.store, ingest);
    assert.deepEqual([await view.relSize(table, first), await view.relSize(table, second)], [1, 6]);
  });

  it('shows a branch its past, and neither the other’s future', async () => {
    const parent = await MadeTimeline.create();
    await parent.write(fullPage(table, 0, 1));
    const at = await parent.write(fullPage(table, 1, 2));
    const onParent = await parent.write(fullPage(table, 0, 3));
    const branch = await parent.branch(at);
    assert.equal((await branch.view.page(table, 0, at))[100], 1);
    const onBranch = await branch.write(fullPage(table, 2, 9));
    assert.equal(await branch.view.relSize(table, onBranch), 3);
    assert.equal((await branch.view.page(table, 0, onBranch))[100], 1);
    assert.equal((await branch.view.page(table, 1, onBranch))[100], 2);
    assert.equal(await parent.view.relSize(table, onParent), 2);
    assert.equal((await parent.view.page(table, 0, onParent))[100], 3);
    assert.equal(
      (await branch.view.tracker(onBranch)).checkPoint.nextXid,
      (await parent.view.tracker(at)).checkPoint.nextXid,
    );
  });
});
