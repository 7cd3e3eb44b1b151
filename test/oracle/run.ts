/** Runs the oracle and prints what it compared. Exit code 1 on any mismatch or error. Usage: run.ts [--long] [--scale N] */
import { parseArgs } from 'node:util';
import { loadedCluster } from './clusters.js';
import { LOADS } from './loads.js';
import { runMasked } from './masked.js';
import { Replay } from './replay.js';
import { OracleReport } from './report.js';
import { WalSource } from './wal-source.js';

const { values } = parseArgs({ options: { scale: { type: 'string', default: '1' } } });
const report = new OracleReport();
const started = performance.now();
await using loaded = await loadedCluster({
  config: ['wal_consistency_checking = all', 'full_page_writes = off'],
  loads: LOADS,
  scale: Number(values.scale),
  crash: false,
});
console.log(`load: ${Math.round(performance.now() - started)} ms`);
const source = new WalSource(loaded.snapshot.dataDir, loaded.cluster.dataDir);
const replay = new Replay(loaded.snapshot.dataDir);
const redoStarted = performance.now();
runMasked(source, replay, report);
console.log(`redo: ${Math.round(performance.now() - redoStarted)} ms, ${source.recordCount} records`);
const chains = replay.checkChains();
console.log(report.toTable());
console.log(`chains: ${chains.count}, different: ${chains.different.length}`);
for (const example of report.examples) console.log(example);
process.exitCode = report.passed && chains.different.length === 0 ? 0 : 1;
