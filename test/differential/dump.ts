/** Everything a server holds as one text, in a form in which two servers with equal contents give equal texts. */
import { pgTool } from '../harness/stack.js';
import type { Side } from './servers.js';

/** Rows of a table of which each server has its own. */
const TIMESTAMPS = /^(COPY commit_timestamps\.stamps_kept .* FROM stdin;\n)(?:\d.*\n)*/m;

/**
 * pg_dumpall without what may differ between servers with the same contents: random tokens, and the order of rows, which follows where
 * free space was known. Unlogged tables are left out, since they do not outlive a crash.
 */
export async function dumpAll(side: Side): Promise<string> {
  const where = ['-h', side.host, '-p', side.port, '-U', side.user];
  const text = await pgTool('pg_dumpall', '--no-unlogged-table-data', ...where);
  return sortRows(text.replace(/^\\(un)?restrict .*$/gm, '').replace(TIMESTAMPS, '$1'));
}

/** Sequences are written to WAL up to 32 values ahead, so a start from WAL skips some. For comparing before and after one. */
export function withoutSequencePositions(dump: string): string {
  return dump.replace(/^(SELECT pg_catalog\.setval\('[^']*'), .*\);$/gm, '$1, …);');
}

function sortRows(dump: string): string {
  const out: string[] = [];
  let rows: string[] | null = null;
  for (const line of dump.split('\n')) {
    if (rows === null) {
      out.push(line);
      if (/^COPY .* FROM stdin;$/.test(line)) rows = [];
    } else if (line === '\\.') {
      out.push(...rows.sort(), line);
      rows = null;
    } else {
      rows.push(line);
    }
  }
  return out.join('\n');
}

/** Every heap and btree of every database; rejects with what amcheck found. */
export async function amcheckAll(side: Side): Promise<void> {
  const where = ['-h', side.host, '-p', side.port, '-U', side.user];
  await pgTool(
    'pg_amcheck',
    '--all',
    '--install-missing',
    '--heapallindexed',
    '--parent-check',
    '--rootdescend',
    ...where,
  );
}
