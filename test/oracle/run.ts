/**
 * Runs the oracle and prints what it compared; exit code 1 on any mismatch or error.
 *
 *   node --conditions=source --import tsx test/oracle/run.ts [--long] [--scale N] [--reached]
 *
 * --long: every variation of settings, at a larger scale. --reached: also which operations the load reached, and how often.
 */
import { parseArgs } from 'node:util';
import { BOOKKEEPING } from './bookkeeping-load.js';
import { loadedCluster } from './clusters.js';
import { compareExact, recover } from './exact.js';
import { LOADS } from './loads.js';
import { runMasked } from './masked.js';
import { OracleReport } from './report.js';

interface Variation {
  readonly config: readonly string[];
  readonly initdbArgs?: readonly string[];
  readonly checkpoints?: boolean;
}

const ALL_LOADS = [...LOADS, BOOKKEEPING];
const MASKED = ['wal_consistency_checking = all', 'full_page_writes = off'];
const MASKED_VARIATIONS: readonly Variation[] = [
  { config: MASKED },
  { config: [...MASKED, 'wal_level = logical', 'wal_log_hints = on', 'track_commit_timestamp = on'] },
  { config: [...MASKED, 'wal_compression = lz4'], initdbArgs: ['--data-checksums'] },
];
const EXACT_VARIATIONS: readonly Variation[] = [
  { config: [], checkpoints: true },
  { config: ['full_page_writes = off'] },
  { config: ['wal_level = logical', 'wal_log_hints = on', 'full_page_writes = off', 'track_commit_timestamp = on'] },
  { checkpoints: true, config: ['wal_compression = pglz'], initdbArgs: ['--data-checksums'] },
  { config: ['wal_compression = lz4'] },
  { config: ['wal_compression = zstd', 'shared_buffers = 1MB'], initdbArgs: ['--wal-segsize=1'] },
];

async function masked(variation: Variation, scale: number, report: OracleReport): Promise<void> {
  await using loaded = await loadedCluster({ ...variation, loads: ALL_LOADS, scale, crash: false });
  runMasked(loaded.snapshot.dataDir, loaded.cluster.dataDir, report);
}

async function exact(variation: Variation, scale: number): Promise<boolean> {
  await using loaded = await loadedCluster({ ...variation, loads: ALL_LOADS, scale, crash: true });
  await using recovered = await recover(loaded);
  const result = compareExact({
    snapshot: loaded.snapshot.dataDir,
    data: loaded.cluster.dataDir,
    recovered: recovered.dataDir,
  });
  const settings = [
    ...variation.config,
    ...(variation.initdbArgs ?? []),
    ...(variation.checkpoints === true ? ['checkpoints'] : []),
  ].join(', ');
  const skipped = result.skippedRelations > 0 ? `, ${result.skippedRelations} relations skipped` : '';
  console.log(
    `exact (${settings}): ${result.records} records in ${result.redoMs} ms, ` +
      `${result.comparedPages} pages compared, ${result.differences.length} differences${skipped}`,
  );
  for (const difference of result.differences) console.log(`  ${difference}`);
  return result.differences.length === 0 && result.comparedPages > 0;
}

const { values } = parseArgs({
  options: { long: { type: 'boolean' }, scale: { type: 'string' }, reached: { type: 'boolean' } },
});
const long = values.long === true;
const scale = Number(values.scale ?? (long ? 4 : 1));
let passed = true;

const report = new OracleReport();
for (const variation of long ? MASKED_VARIATIONS : MASKED_VARIATIONS.slice(0, 1))
  await masked(variation, scale, report);
console.log(report.toTable());
console.log(
  `masked: ${report.total('records')} records in ${Math.round(report.redoMs)} ms, ${report.total('comparisons')} comparisons, ` +
    `${report.total('mismatches')} mismatches, ${report.errors} errors, ${report.chains} pages rebuilt in one call`,
);
for (const example of report.examples) console.log(`  ${example}`);
if (values.reached === true) for (const [name, count] of [...report.reached].sort()) console.log(`  ${name}: ${count}`);
passed &&= report.passed;

for (const variation of long ? EXACT_VARIATIONS : EXACT_VARIATIONS.slice(0, 1))
  passed = (await exact(variation, scale)) && passed;
process.exitCode = passed ? 0 : 1;
