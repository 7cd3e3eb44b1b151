/**
 * What a run needs of the clusters that wrote the WAL, in a folder that outlives them, so that it is made once and measured often:
 *   image.tar   the data directory with which the page server begins
 *   pg_wal/     segment files
 *   facts.json  positions, and what random pages were at the end of each round
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import type { KnownPage } from './source.js';
import { LoadedCluster } from './source.js';

const MIB = 1 << 20;
const PAGES_A_ROUND = 20;

interface Facts {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly segSize: number;
  readonly systemId: string;
  readonly rounds: number;
  readonly pages: readonly KnownPage[];
}

export interface Recording extends Facts {
  readonly image: string;
  readonly pgWal: string;
}

export interface Wanted {
  readonly dir: string;
  readonly walBytes: number;
  /** All kinds of writes, or a database that grows with each byte of WAL. */
  readonly load: 'mixed' | 'bulk';
  readonly random: (below: number) => number;
}

/** Takes the recording in `dir`, or makes one there. */
export async function recordingIn(wanted: Wanted): Promise<Recording> {
  const { dir } = wanted;
  if (!existsSync(join(dir, 'facts.json'))) await record(wanted);
  const facts = JSON.parse(readFileSync(join(dir, 'facts.json'), 'utf8')) as Facts;
  return { ...facts, image: join(dir, 'image.tar'), pgWal: join(dir, 'pg_wal') };
}

async function record({ dir, walBytes, load, random }: Wanted): Promise<void> {
  mkdirSync(dir, { recursive: true });
  const cluster = await LoadedCluster.create((image) => {
    execFileSync('tar', ['-C', image.dataDir, '--exclude=./pg_wal/*', '-cf', join(dir, 'image.tar'), '.']);
  });
  try {
    await cluster.begin(load === 'bulk' ? 1 : Math.max(1, Math.min(20, Math.round(walBytes / (100 * MIB)))));
    while ((await cluster.head()) - cluster.startLsn < walBytes) {
      if (load === 'bulk') await cluster.growRound(64_000);
      else await cluster.writeRound(4000, 60_000);
      await cluster.notePages(PAGES_A_ROUND, random);
    }
    const endLsn = await cluster.head();
    const { primary, startLsn, round, pages } = cluster;
    const { segSize, systemId } = decodeControlFile(readFileSync(join(primary.dataDir, 'global/pg_control')));
    await primary.stop();
    execFileSync('mv', [join(primary.dataDir, 'pg_wal'), join(dir, 'pg_wal')]);
    const facts: Facts = { startLsn, endLsn, segSize, systemId: String(systemId), rounds: round, pages };
    writeFileSync(join(dir, 'facts.json'), JSON.stringify(facts));
  } finally {
    await cluster.destroy();
  }
}
