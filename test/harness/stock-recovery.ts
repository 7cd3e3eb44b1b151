/**
 * What PostgreSQL itself makes of a timeline's WAL: a plain data directory as the timeline began, the WAL that lies on a safekeeper,
 * and the server's crash recovery over all of it. Nobody connects, so no hint bit is set that WAL does not set.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { lsn, lsnFromWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { segmentName, segmentNumber, segmentStart } from '#shared/postgres/wal-layout.js';
import { fetchBaseBackup } from '../../services/compute-ctl/io/base-backup.js';
import { markCrashed } from '../oracle/clusters.js';
import type { ForkTag } from '../oracle/page-files.js';
import type { StorageReader } from './storage-reader.js';

const CONFIG = [
  'autovacuum = off',
  'max_prepared_transactions = 20',
  'max_wal_size = 100GB',
  'checkpoint_timeout = 1d',
  'shared_buffers = 64MB',
];
const PAGE_BYTES = 8192;
const FORK_SUFFIXES = ['', '_fsm', '_vm', '_init'];

export interface TimelineSource {
  readonly reader: StorageReader;
  /** A tar of the data directory that the timeline was made from: tells which relations there are. */
  readonly initdbImage: string;
  /** The timeline's directory on a safekeeper. */
  /** Of a safekeeper, and of the object store that it uploads to. */
  readonly walDirs: readonly string[];
}

/** A directory filled from a base backup of the page server; it has no relation files. */
export async function baseBackupAt(reader: StorageReader, at: Lsn, dir: string): Promise<void> {
  await fetchBaseBackup({
    addr: reader.addr,
    ttid: reader.ttid,
    lsn: at,
    dir,
    isFresh: true,
    replica: false,
    account: null,
    signal: AbortSignal.timeout(60_000),
    onHeader: () => undefined,
  });
}

/** The cluster after recovery up to `end`, a record boundary; stopped, before anybody connected. */
export async function recoverStock(source: TimelineSource, end: Lsn): Promise<TempCluster> {
  const { reader } = source;
  const info = await reader.timeline();
  const start = lsnFromWire(info.initdbLsn);
  const cluster = await TempCluster.empty();
  try {
    await baseBackupAt(reader, start, cluster.dataDir);
    await writeRelations(source, start, cluster.dataDir);
    rmSync(join(cluster.dataDir, 'pg_wal'), { recursive: true });
    mkdirSync(join(cluster.dataDir, 'pg_wal/archive_status'), { recursive: true });
    copyWal(source.walDirs, join(cluster.dataDir, 'pg_wal'), { start, end, segSize: info.walSegSize });
    markCrashed(cluster.dataDir);
    writeFileSync(join(cluster.dataDir, 'postgresql.conf'), '');
    cluster.configure(CONFIG);
    await cluster.own();
    await cluster.start();
    await cluster.stop('immediate');
    return cluster;
  } catch (error) {
    await cluster.destroy();
    throw error;
  }
}

/** Relation files as the page server has them at the timeline's begin. */
async function writeRelations(source: TimelineSource, at: Lsn, dataDir: string): Promise<void> {
  using pages = source.reader.openPages(at);
  for (const fork of imageForks(source.initdbImage)) {
    const blocks = await source.reader.forkBlocks(fork, at);
    if (blocks === null) throw new Error(`the page server lacks ${fork.db}/${fork.rel}/${fork.fork} of the image`);
    const dir = fork.db === 0 ? 'global' : `base/${fork.db}`;
    const file = openSync(join(dataDir, dir, `${fork.rel}${FORK_SUFFIXES[fork.fork]}`), 'w');
    let at0 = 0;
    for await (const page of pages.read(fork, blocks)) at0 += writeSync(file, page, 0, PAGE_BYTES, at0);
    closeSync(file);
  }
}

function imageForks(image: string): ForkTag[] {
  const { stdout, status } = spawnSync('tar', ['-tf', image], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cannot list ${image}`);
  const forks = stdout.split('\n').flatMap((name) => {
    const match = /^(?:\.\/)?(global|base\/(\d+))\/(\d+)(_fsm|_vm|_init)?$/.exec(name);
    if (match === null) return [];
    const db = match[1] === 'global' ? 0 : Number(match[2]);
    return [{ spc: db === 0 ? 1664 : 1663, db, rel: Number(match[3]), fork: FORK_SUFFIXES.indexOf(match[4] ?? '') }];
  });
  if (forks.length === 0) throw new Error(`${image} holds no relations`);
  return forks;
}

/**
 * Copies WAL in [start of the first segment, end), with zeros behind it: whoever reads it ends there. Segments that have left the
 * safekeeper are read where it put them, in the object store's directory.
 */
export function copyWal(
  walDirs: readonly string[],
  target: string,
  range: { start: Lsn; end: Lsn; segSize: number },
): void {
  const { start, end, segSize } = range;
  for (let at = segmentStart(start, segSize); at < end; at = lsn(at + segSize)) {
    const name = segmentName(segmentNumber(at, segSize), segSize);
    const places = walDirs.flatMap((dir) => [join(dir, name), join(dir, `${name}.partial`)]);
    const place = places.find((path) => existsSync(path));
    if (place === undefined) throw new Error(`no segment ${name} in ${walDirs.join(', ')}`);
    const bytes = readStart(place, Math.min(segSize, end - at));
    const segment = Buffer.alloc(segSize);
    bytes.copy(segment);
    writeFileSync(join(target, name), segment);
  }
}

function readStart(path: string, length: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(length);
    const count = readSync(file, bytes, 0, length, 0);
    if (count !== length) throw new Error(`${path} has ${count} of ${length} bytes`);
    return bytes;
  } finally {
    closeSync(file);
  }
}
