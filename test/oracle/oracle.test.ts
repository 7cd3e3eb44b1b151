/** The oracle at small scale; `run.ts --long` runs more of it. */
import assert from 'node:assert/strict';
import { RM_BTREE, RM_HEAP, RM_HEAP2, RM_SEQ } from '#shared/postgres/rmgr.js';
import { loadedCluster } from './clusters.js';
import { runDamage } from './damage.js';
import { compareExact, recover } from './exact.js';
import { LOADS } from './loads.js';
import { runMasked } from './masked.js';
import { OracleReport } from './report.js';

/** Operations and block ids that the load must reach, else the comparison shows nothing. */
const MUST_REACH = [
  ...['Heap 00 block 0', 'Heap 10 block 0', 'Heap 20 block 0', 'Heap 20 block 1', 'Heap 40 block 0', 'Heap 50 block 0'],
  ...['Heap 60 block 0', 'Heap 70 block 0', 'Heap 80 block 0', 'Heap a0 block 0'],
  ...['Heap2 10 block 0', 'Heap2 20 block 0', 'Heap2 30 block 0', 'Heap2 40 block 0', 'Heap2 40 block 1'],
  ...['Heap2 50 block 0', 'Heap2 60 block 0', 'Heap2 d0 block 0'],
  ...['Btree 00 block 0', 'Btree 10 block 0', 'Btree 10 block 1', 'Btree 20 block 2', 'Btree 30 block 0'],
  ...['Btree 30 block 1', 'Btree 30 block 2', 'Btree 40 block 0', 'Btree 40 block 3', 'Btree 50 block 0'],
  ...['Btree 60 block 0', 'Btree 70 block 0', 'Btree 80 block 0', 'Btree 80 block 1', 'Btree 80 block 2'],
  ...['Btree 80 block 3', 'Btree 90 block 4', 'Btree a0 block 0', 'Btree a0 block 1', 'Btree a0 block 2'],
  ...['Btree b0 block 0', 'Btree b0 block 1', 'Btree c0 block 0', 'Btree e0 block 0', 'Sequence 00 block 0'],
];

describe('the server as judge of redo', () => {
  it('agrees with every page image that it put into WAL; damaged values are refused or harmless', async () => {
    await using loaded = await loadedCluster({
      config: ['wal_consistency_checking = all', 'full_page_writes = off'],
      loads: LOADS,
      scale: 1,
      crash: false,
    });
    const report = new OracleReport();
    runMasked(loaded.snapshot.dataDir, loaded.cluster.dataDir, report);
    assert.deepEqual(report.examples, []);
    assert.ok(report.passed, report.toTable());
    for (const rmid of [RM_HEAP, RM_HEAP2, RM_BTREE, RM_SEQ]) assert.ok(report.of(rmid).comparisons > 10);
    assert.deepEqual(
      MUST_REACH.filter((name) => !report.reached.has(name)),
      [],
    );

    const seed = Date.now();
    const damage = runDamage(loaded.snapshot.dataDir, loaded.cluster.dataDir, 7, seed);
    assert.deepEqual(damage.failures, [], `seed ${seed}`);
    assert.ok(damage.refused > damage.tried / 20, `${damage.refused} of ${damage.tried} refused`);
  });

  it('has the same bytes in every page after it has recovered from a crash', async () => {
    await using loaded = await loadedCluster({
      config: ['wal_compression = lz4'],
      loads: LOADS,
      scale: 1,
      crash: true,
      checkpoints: true,
    });
    await using recovered = await recover(loaded);
    const result = compareExact({
      snapshot: loaded.snapshot.dataDir,
      data: loaded.cluster.dataDir,
      recovered: recovered.dataDir,
    });
    assert.deepEqual(result.differences, []);
    assert.ok(result.comparedPages > 3000, `${result.comparedPages} pages`);
  });
});
