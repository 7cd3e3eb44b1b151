/** Runs one oracle on directories that are there already: check.ts masked|exact SNAPSHOT DATA [RECOVERED]. Exit code 1: it disagrees. */
import { compareExact } from './exact.js';
import { runMasked } from './masked.js';
import { OracleReport } from './report.js';

const [mode, snapshot = '', data = '', recovered = ''] = process.argv.slice(2);
if (mode === 'masked') {
  const report = new OracleReport();
  runMasked(snapshot, data, report, { stopAtFirst: true });
  console.log(report.examples[0] ?? '');
  process.exitCode = report.passed ? 0 : 1;
} else {
  const result = compareExact({ snapshot, data, recovered });
  console.log(result.differences[0] ?? '');
  process.exitCode = result.differences.length === 0 ? 0 : 1;
}
