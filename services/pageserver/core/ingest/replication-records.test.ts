import { strict as assert } from 'node:assert';
import { RM_LOGICALMSG, RM_REPLORIGIN, RM_XACT, RM_XLOG } from '#shared/postgres/rmgr.js';
import { auxPathHash, isAuxPath } from '../aux-files.js';
import { words } from '../testing/made-record.js';
import { MadeTimeline } from '../testing/new-timeline.js';

/** Their 32-bit FNV-1a hashes are equal. */
const TWINS = ['pg_logical/snapshots/0-6E1A.snap', 'pg_logical/snapshots/0-4ABC9.snap'] as const;
const HAS_XINFO = 0x80;
const HAS_ORIGIN = 1 << 5;

function message(path: string, content: string, change: { database?: number; transactional?: number } = {}) {
  const prefix = Buffer.from(`neon-file:${path}\0`);
  const head = words(change.database ?? 0, change.transactional ?? 0, prefix.length, 0, content.length, 0);
  return { rmid: RM_LOGICALMSG, info: 0, mainData: Buffer.concat([head, prefix, Buffer.from(content)]) };
}

describe('auxiliary files', () => {
  let timeline: MadeTimeline;
  beforeEach(async () => {
    timeline = await MadeTimeline.create();
  });
  const files = async (of: MadeTimeline, at = of.store.lastRecordLsn): Promise<string[]> =>
    (await of.view.auxFiles(at)).map(({ path, content }) => `${path}=${Buffer.from(content).toString()}`).sort();

  it('are replaced and deleted, and each position sees its own', async () => {
    const first = await timeline.write(message('pg_replslot/a/state', 'one'));
    const second = await timeline.write(message('pg_replslot/a/state', 'two'));
    await timeline.reopen();
    const third = await timeline.write(message('pg_replslot/a/state', ''));
    assert.deepEqual(await files(timeline, first), ['pg_replslot/a/state=one']);
    assert.deepEqual(await files(timeline, second), ['pg_replslot/a/state=two']);
    assert.deepEqual(await files(timeline, third), []);
  });

  it('share a key when their hashes are equal', async () => {
    const [a, b] = TWINS;
    assert.equal(auxPathHash(a), auxPathHash(b));
    await timeline.write(message(a, 'one'));
    await timeline.write(message(b, 'two'));
    assert.deepEqual(await files(timeline), [`${b}=two`, `${a}=one`].sort());
    await timeline.reopen();
    await timeline.write(message(a, ''));
    assert.deepEqual(await files(timeline), [`${b}=two`]);
  });

  it('come from the compute alone, under paths that are taken', async () => {
    await timeline.write(message('pg_replslot/a/state', 'x', { database: 5 }));
    await timeline.write(message('pg_replslot/a/state', 'x', { transactional: 1 }));
    assert.deepEqual(timeline.warnings, []);
    const refused = [
      '../x',
      '/etc/passwd',
      'pg_logical/../x',
      'base/1/2',
      'pg_replslot/walproposer/state',
      'pg_stat/.x',
    ];
    for (const path of refused) {
      assert.equal(isAuxPath(path), false, path);
      await timeline.write(message(path, 'x'));
    }
    assert.equal(timeline.warnings.length, refused.length);
    assert.deepEqual(await files(timeline), []);
    await assert.rejects(
      timeline.write({ rmid: RM_LOGICALMSG, info: 0, mainData: words(0, 0, 99, 0, 0, 0) }),
      /too short/,
    );
  });

  it('of an ancestor are not those of its branches', async () => {
    const at = await timeline.write(message('pg_replslot/a/state', 'one'));
    const branch = await timeline.branch(at);
    assert.deepEqual(await files(branch, at), []);
    await branch.write(message('pg_replslot/b/state', 'two'));
    assert.deepEqual(await files(branch), ['pg_replslot/b/state=two']);
    await branch.reopen();
    await branch.write(message('pg_replslot/a/state', 'three'));
    assert.deepEqual(await files(branch), ['pg_replslot/a/state=three', 'pg_replslot/b/state=two']);
    assert.deepEqual(await files(timeline), ['pg_replslot/a/state=one']);
  });
});

describe('replication origins', () => {
  it('go forward by commits and by force back, and are dropped', async () => {
    const timeline = await MadeTimeline.create();
    const set = (id: number, position: number, force: number) =>
      timeline.write({ rmid: RM_REPLORIGIN, info: 0, mainData: words(position, 0, id | (force << 16)) });
    const progress = async (at = timeline.store.lastRecordLsn): Promise<string> =>
      (await timeline.view.origins(at)).map(({ id, remoteLsn }) => `${id}:${remoteLsn}`).join(' ');
    const first = await set(2, 500, 0);
    await set(1, 100, 0);
    await set(2, 400, 0);
    assert.equal(await progress(), '1:100 2:500');
    await timeline.reopen();
    await set(2, 400, 1);
    await set(0xffff, 1, 1);
    assert.equal(await progress(), '1:100 2:400');
    await timeline.write({ rmid: RM_REPLORIGIN, info: 0x10, mainData: words(1) });
    assert.equal(await progress(), '2:400');
    assert.equal(await progress(first), '2:500');
    await timeline.write({ rmid: RM_XLOG, info: 0x20 });
    const commit = words(0, 0, HAS_ORIGIN, 900, 0, 0, 0);
    await timeline.write({ rmid: RM_XACT, info: HAS_XINFO, xid: 800, originId: 2, mainData: commit });
    assert.equal(await progress(), '2:900');
  });
});
