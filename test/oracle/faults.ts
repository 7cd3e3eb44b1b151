/**
 * The test of the test: breaks redo in one place at a time, in a copy of the sources, and runs the oracle on it. Exit code 1 when a
 * fault goes unnoticed, or when the text to break is not there any more.
 *
 *   node --conditions=source --import tsx test/oracle/faults.ts [name…]
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { loadedCluster } from './clusters.js';
import { recover } from './exact.js';
import { FAULTS, type Fault } from './fault-list.js';
import { LOADS, type Load } from './loads.js';

const ROOT = path.resolve(import.meta.dirname, '../..');
const REDO = 'services/pageserver/core/redo';

/** A tree in which only redo is a copy; everything else is the real thing. */
function copyTree(): string {
  const tree = mkdtempSync(path.join(tmpdir(), 'neon-faults-'));
  mkdirSync(path.join(tree, 'services/pageserver/core'), { recursive: true });
  for (const name of ['package.json', 'tsconfig.json']) cpSync(path.join(ROOT, name), path.join(tree, name));
  for (const name of ['services/shared', 'services/pageserver/core/redo', 'test/oracle']) {
    cpSync(path.join(ROOT, name), path.join(tree, name), { recursive: true });
  }
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(tree, 'node_modules'));
  return tree;
}

function check(tree: string, args: readonly string[]): Promise<{ noticed: boolean; output: string }> {
  return new Promise((resolve) => {
    const nodeArgs = ['--conditions=source', '--import', 'tsx', 'test/oracle/check.ts', ...args];
    execFile(process.execPath, nodeArgs, { cwd: tree }, (error, stdout, stderr) => {
      resolve({ noticed: error !== null, output: stdout.trim() || stderr.trim().slice(0, 300) });
    });
  });
}

/** Returns what is wrong; null when the oracle noticed the fault. */
async function plant(tree: string, fault: Fault, args: readonly string[]): Promise<string | null> {
  const file = path.join(tree, REDO, fault.file);
  const original = readFileSync(file, 'utf8');
  if (original.split(fault.find).length !== 2) return 'its text is not in the source exactly once';
  writeFileSync(file, original.replace(fault.find, fault.replace));
  try {
    const { noticed, output } = await check(tree, args);
    if (noticed) console.log(`noticed   ${fault.name}: ${output.slice(0, 150)}`);
    return noticed ? null : 'unnoticed';
  } finally {
    writeFileSync(file, original);
  }
}

/** Faults in these files show only in a load with their indexes. */
const INDEX_FILES = /^(hash|brin|generic|gin|gist|spgist)/;
const INDEX_LOADS = ['hash', 'brin', 'generic', 'gin', 'gist', 'spgist'];

interface Group {
  readonly loads: readonly Load[];
  readonly faults: readonly Fault[];
}

function groups(names: readonly string[]): Group[] {
  const wanted = FAULTS.filter(({ name }) => names.length === 0 || names.includes(name));
  const needsIndexes = ({ file, name }: Fault): boolean => INDEX_FILES.test(file) || name.startsWith('BRIN');
  return [
    { loads: LOADS.filter(({ name }) => !INDEX_LOADS.includes(name)), faults: wanted.filter((f) => !needsIndexes(f)) },
    { loads: LOADS.filter(({ name }) => INDEX_LOADS.includes(name)), faults: wanted.filter(needsIndexes) },
  ].filter(({ faults }) => faults.length > 0);
}

async function plantAll(tree: string, { loads, faults }: Group): Promise<number> {
  const masking = ['wal_consistency_checking = all', 'full_page_writes = off'];
  await using masked = await loadedCluster({ config: masking, loads, scale: 1, crash: false });
  await using crashed = await loadedCluster({ config: ['full_page_writes = off'], loads, scale: 1, crash: true });
  await using recovered = await recover(crashed);
  const args = {
    masked: ['masked', masked.snapshot.dataDir, masked.cluster.dataDir],
    exact: ['exact', crashed.snapshot.dataDir, crashed.cluster.dataDir, recovered.dataDir],
  };
  for (const oracle of ['masked', 'exact'] as const) {
    const { noticed, output } = await check(tree, args[oracle]);
    if (noticed) throw new Error(`the ${oracle} oracle fails without any fault: ${output}`);
  }
  let failures = 0;
  for (const fault of faults) {
    const problem = await plant(tree, fault, args[fault.oracle]);
    if (problem === null) continue;
    failures++;
    console.log(`FAILED    ${fault.name} (${fault.file}): ${problem}`);
  }
  return failures;
}

const tree = copyTree();
try {
  let count = 0;
  let failures = 0;
  for (const group of groups(process.argv.slice(2))) {
    count += group.faults.length;
    failures += await plantAll(tree, group);
  }
  console.log(`${count} faults, ${failures} of them not noticed`);
  process.exitCode = failures === 0 ? 0 : 1;
} finally {
  rmSync(tree, { recursive: true, force: true });
}
