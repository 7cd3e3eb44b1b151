/** For tests: a cluster unpacked from a base backup, with its relation files, so that a server without the extension runs on it. */
import { closeSync, createWriteStream, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { baseBackup } from '../basebackup/basebackup.js';
import { type BaseBackupOptions, planBaseBackup } from '../basebackup/plan.js';
import { readTar } from '../basebackup/tar-reader.js';
import { packTar } from '../basebackup/ustar.js';
import { FORK_INIT, GLOBAL_TABLESPACE } from '../keyspace.js';
import type { TimelineView } from '../view/timeline-view.js';
import { QUIET_CONFIG } from './recorded-history.js';

const FORK_SUFFIXES = ['', '_fsm', '_vm', '_init'];

/** Through a tar and back. Not started. */
export async function unpackBaseBackup(view: TimelineView, options: BaseBackupOptions): Promise<TempCluster> {
  const cluster = await TempCluster.empty();
  const plan = await planBaseBackup(view, options);
  for await (const entry of readTar(packTar(baseBackup(view, options, plan), options.timeS))) {
    const target = path.join(cluster.dataDir, entry.path);
    if (entry.type === 'directory') mkdirSync(target, { recursive: true });
    else await pipeline(Readable.from(entry.pieces), createWriteStream(target, { mode: entry.mode }));
  }
  for (const { name, sizeBytes, pieces } of plan.segments) {
    const file = openSync(path.join(cluster.dataDir, 'pg_wal', name), 'w');
    for (const { offset, bytes } of pieces) writeSync(file, bytes, 0, bytes.length, offset);
    ftruncateSync(file, sizeBytes);
    closeSync(file);
  }
  for (const relation of await view.relations(plan.lsn)) {
    if (relation.fork === FORK_INIT) continue;
    const directory = relation.spc === GLOBAL_TABLESPACE ? 'global' : `base/${relation.db}`;
    const pages: Uint8Array[] = [];
    for await (const page of view.relationPages(relation, plan.lsn)) pages.push(page);
    const name = `${relation.rel}${FORK_SUFFIXES[relation.fork]}`;
    writeFileSync(path.join(cluster.dataDir, directory, name), Buffer.concat(pages));
  }
  writeFileSync(path.join(cluster.dataDir, 'postgresql.conf'), '');
  cluster.configure(QUIET_CONFIG);
  await cluster.own();
  return cluster;
}
