/** For tests: what stock crash recovery left in a data directory, and what storage would write out, under the same names. */
import { strict as assert } from 'node:assert';
import { crc32c } from '#shared/postgres/crc32c.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { readDataDir } from '../../io/datadir-reader.js';
import { type DataDirPath, parseDataDirPath } from '../import/datadir-paths.js';
import { FORK_FSM, FORK_INIT, formatRel, type RelTag, SLRU_KINDS } from '../keyspace.js';
import type { IngestedHistory } from './recorded-history.js';

export const PAGE = 8192;

export interface Files {
  /** Without FSM, which WAL says little about; without the contents of unlogged relations. */
  readonly relations: Map<string, { rel: RelTag; bytes: Buffer }>;
  readonly others: Map<string, Buffer>;
}

export async function filesOf(cluster: TempCluster): Promise<Files> {
  const files: Files = { relations: new Map(), others: new Map() };
  for await (const entry of readDataDir(cluster.dataDir)) {
    const found = parseDataDirPath(entry.path);
    if (entry.type === 'directory' || found.kind === 'ignored' || found.kind === 'wal') continue;
    const pieces: Uint8Array[] = [];
    for await (const piece of entry.pieces) pieces.push(piece);
    place(files, found, entry.path, Buffer.concat(pieces));
  }
  for (const [name, { rel }] of files.relations) {
    const isUnlogged = files.relations.has(formatRel({ ...rel, fork: FORK_INIT }));
    if (rel.fork === FORK_FSM || (rel.fork !== FORK_INIT && isUnlogged)) files.relations.delete(name);
  }
  return files;
}

function place(files: Files, found: DataDirPath, path: string, bytes: Buffer): void {
  assert.notEqual(found.kind, 'refused', path);
  if (found.kind === 'relation') files.relations.set(formatRel(found.rel), { rel: found.rel, bytes });
  else files.others.set(path, bytes);
}

/** Everything but relations. */
export async function filesFromView({ view, store }: IngestedHistory): Promise<Map<string, Buffer>> {
  const at = store.lastRecordLsn;
  const files = new Map<string, Buffer>();
  const directories = ['pg_xact', 'pg_multixact/members', 'pg_multixact/offsets', 'pg_commit_ts'];
  for (const kind of SLRU_KINDS) {
    for (const { segno } of await view.slruSegments(kind, at)) {
      const name = segno.toString(16).toUpperCase().padStart(4, '0');
      files.set(`${directories[kind]}/${name}`, Buffer.from((await view.slruSegment(kind, segno, at)) ?? []));
    }
  }
  files.set('PG_VERSION', Buffer.from('15\n'));
  for (const { spc, db, relationMap } of await view.databases(at)) {
    const directory = spc === 1664 ? 'global' : `base/${db}`;
    if (spc !== 1664) files.set(`${directory}/PG_VERSION`, Buffer.from('15\n'));
    if (relationMap !== null) files.set(`${directory}/pg_filenode.map`, Buffer.from(relationMap));
  }
  for (const { xid, state } of await view.preparedTransactions(at)) {
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32c(state));
    files.set(`pg_twophase/${xid.toString(16).toUpperCase().padStart(8, '0')}`, Buffer.concat([state, crc]));
  }
  return files;
}

export function differences(page: Uint8Array, truth: Uint8Array): string {
  const at: number[] = [];
  for (let i = 0; i < PAGE; i++) if (page[i] !== truth[i]) at.push(i);
  const first = at.slice(0, 8).map((i) => `${i} (${page[i]} for ${truth[i]})`);
  return `${at.length} bytes differ, the first at ${first.join(', ')}`;
}
