/** For tests: a cluster whose next transaction, multixact and member offset are a few hundred before their 32 bits are used up. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';

const PAGE_BYTES = 8192;
const SEGMENT_PAGES = 32;
/** Of xid status, multixact offsets and members, in one page: clog.c and multixact.c. */
const XIDS_A_PAGE = 32768;
const MULTIS_A_PAGE = 2048;
const MEMBERS_A_PAGE = 1636;

const END = 2 ** 32;
/** Each less than 2^31 from the one before: rows older than that would seem to be in the future. */
const STAGES = [1_500_000_000, 3_000_000_000, END - 500];
/** Ends with fewer multixacts than END - 500 has left. */
const FIRST_MEMBER_OFFSET = END - 200;

/** A segment file of zeros, as the server would have made it on its way there. */
function fillSegment(cluster: TempCluster, directory: string, page: number): void {
  const dir = path.join(cluster.dataDir, directory);
  mkdirSync(dir, { recursive: true });
  const name = Math.floor(page / SEGMENT_PAGES)
    .toString(16)
    .toUpperCase()
    .padStart(4, '0');
  writeFileSync(path.join(dir, name), Buffer.alloc(SEGMENT_PAGES * PAGE_BYTES));
}

async function forgetTheOld(cluster: TempCluster): Promise<void> {
  await cluster.start();
  await cluster.psql('update pg_database set datallowconn = true');
  for (const database of ['postgres', 'template1', 'template0']) await cluster.psql('vacuum freeze', database);
  await cluster.stop();
}

/** `cluster` is stopped, and is so again. */
export async function moveNearWraparound(cluster: TempCluster): Promise<void> {
  let oldestMulti = 1;
  for (const [at, next] of STAGES.entries()) {
    const isLast = at === STAGES.length - 1;
    const offset = isLast ? ['-O', String(FIRST_MEMBER_OFFSET)] : [];
    await cluster.run('pg_resetwal', [
      '-f',
      ...['-x', String(next), '-m', `${next},${oldestMulti}`, ...offset],
      cluster.dataDir,
    ]);
    fillSegment(cluster, 'pg_xact', Math.floor(next / XIDS_A_PAGE));
    fillSegment(cluster, 'pg_multixact/offsets', Math.floor(next / MULTIS_A_PAGE));
    if (isLast) fillSegment(cluster, 'pg_multixact/members', Math.floor(FIRST_MEMBER_OFFSET / MEMBERS_A_PAGE));
    await cluster.own();
    if (!isLast) await forgetTheOld(cluster);
    oldestMulti = next;
  }
}
