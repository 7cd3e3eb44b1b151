/** For tests: WAL of a real cluster, and what pg_waldump says about it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { formatLsn, lsn, type Lsn } from '../../core/lsn.js';
import { parseSegmentName } from '../wal-layout.js';
import type { TempCluster } from './temp-cluster.js';

export interface RealWal {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly segSize: number;
  /** All bytes from startLsn, the first segment's start, to endLsn. */
  readonly bytes: Buffer;
}

/** The cluster should be stopped. `endLsn` cuts what the server has preallocated or left over behind its last record. */
export async function readWal(cluster: TempCluster, segSize: number, endLsn: Lsn): Promise<RealWal> {
  const segments: Buffer[] = [];
  let startLsn: Lsn | null = null;
  for (const name of await cluster.walFiles()) {
    const position = parseSegmentName(name, segSize);
    if (position === null || position.segno * segSize >= endLsn) continue;
    startLsn ??= lsn(position.segno * segSize);
    segments.push(readFileSync(path.join(cluster.dataDir, 'pg_wal', name)));
  }
  if (startLsn === null) throw new Error('the cluster has no WAL');
  return { startLsn, endLsn, segSize, bytes: Buffer.concat(segments).subarray(0, endLsn - startLsn) };
}

/** One line per record: resource manager, total length, xid, start, previous. Compare with describeRecord. */
export async function waldumpLines(cluster: TempCluster, from: Lsn, to: Lsn): Promise<string[]> {
  const wal = path.join(cluster.dataDir, 'pg_wal');
  const { stdout } = await cluster.run('pg_waldump', ['-p', wal, '-s', formatLsn(from), '-e', formatLsn(to)]);
  const line =
    /^rmgr: (\S+)\s+len \(rec\/tot\):\s*\d+\/\s*(\d+), tx:\s*(\d+), lsn: ([0-9A-F/]+), prev ([0-9A-F/]+), desc: (.*)$/;
  const lines: string[] = [];
  for (const text of stdout.split('\n')) {
    const match = line.exec(text);
    if (match) lines.push(match.slice(1, 6).join(' ') + blockRefs(match[6] ?? ''));
  }
  return lines;
}

/** "blkref #0: rel 1663/5/2619 blk 3 FPW" → " 0:1663/5/2619/0/3F" */
function blockRefs(description: string): string {
  const refs = /blkref #(\d+): rel (\d+\/\d+\/\d+)(?: fork (\w+))? blk (\d+)( FPW)?/g;
  const forks = ['main', 'fsm', 'vm', 'init'];
  return [...description.matchAll(refs)]
    .map(([, id, rel, fork, block, image]) => {
      return ` ${id}:${rel}/${forks.indexOf(fork ?? 'main')}/${block}${image === undefined ? '' : 'F'}`;
    })
    .join('');
}

/** pg_waldump prints 8 hex digits of the low half. */
export function paddedLsn(value: Lsn): string {
  const [high, low] = formatLsn(value).split('/');
  return `${high}/${(low ?? '').padStart(8, '0')}`;
}
