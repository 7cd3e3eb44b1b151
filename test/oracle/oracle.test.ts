/** The oracle at small scale; `run.ts --long` runs more of it. */
import assert from 'node:assert/strict';
import { long } from '#shared/testing/long.js';
import { loadedCluster } from './clusters.js';
import { runDamage } from './damage.js';
import { compareExact, recover } from './exact.js';
import { LOADS } from './loads.js';
import { runMasked } from './masked.js';
import { OracleReport } from './report.js';

/** Seconds on an idle machine. */
const TIMEOUT_MS = 300_000;

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
  ...['Hash 00 block 0', 'Hash 10 block 1', 'Hash 20 block 0', 'Hash 30 block 0', 'Hash 30 block 4', 'Hash 40 block 2'],
  ...['Hash 60 block 1', 'Hash 80 block 1', 'Hash 80 block 5', 'Hash 90 block 1', 'Hash a0 block 0', 'Hash b0 block 0'],
  ...['Gin 10 block 0', 'Gin 20 block 0', 'Gin 20 block 1', 'Gin 50 block 0', 'Gin 50 block 1', 'Gin 50 block 2'],
  ...['Gin 60 block 0', 'Gin 60 block 1', 'Gin 70 block 0', 'Gin 80 block 0', 'Gin 80 block 1', 'Gin 90 block 0'],
  ...['Gist 00 block 0', 'Gist 00 block 1', 'Gist 10 block 0', 'Gist 30 block 0', 'Gist 30 block 1', 'Gist 60 block 0'],
  ...['SPGist 10 block 0', 'SPGist 10 block 1', 'SPGist 20 block 0', 'SPGist 20 block 1', 'SPGist 20 block 2'],
  ...['SPGist 30 block 0', 'SPGist 30 block 1', 'SPGist 40 block 0', 'SPGist 50 block 0', 'SPGist 50 block 1'],
  ...['SPGist 50 block 2', 'SPGist 50 block 3', 'SPGist 60 block 0', 'SPGist 70 block 0', 'SPGist 80 block 0'],
  ...['BRIN 00 block 0', 'BRIN 10 block 0', 'BRIN 10 block 1', 'BRIN 20 block 2', 'BRIN 30 block 0', 'BRIN 50 block 0'],
  ...['BRIN 90 block 0', 'Generic 00 block 0'],
  ...['Btree b0 block 0', 'Btree b0 block 1', 'Btree c0 block 0', 'Btree e0 block 0', 'Sequence 00 block 0'],
];

describe('the server as judge of redo', function () {
  this.timeout(TIMEOUT_MS);

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
    assert.equal(report.total('unimplemented'), 0);
    assert.deepEqual(
      MUST_REACH.filter((name) => !report.reached.has(name)),
      [],
    );

    const seed = Date.now();
    const damage = runDamage(loaded.snapshot.dataDir, loaded.cluster.dataDir, 13, seed);
    assert.deepEqual(damage.failures, [], `seed ${seed}`);
    assert.ok(damage.refused > damage.tried / 20, `${damage.refused} of ${damage.tried} refused`);
  });

  long('has the same bytes in every page after it has recovered from a crash', async () => {
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
