/**
 * Compares what the page server has of a timeline at an LSN with a data directory that PostgreSQL recovered to the same LSN: which
 * forks exist and how long they are, all bytes of all pages, pg_xact and pg_multixact, relation maps, two-phase files, pg_control.
 * Nothing is masked.
 *
 * Not compared:
 * - free space maps: their changes are not logged; recovery keeps a guess of its own, and storage one for its readers;
 * - contents of unlogged relations: recovery empties them, storage has never had them. Their init forks are compared;
 * - in pg_control, the time, and full_page_writes: they are of the server that wrote the checkpoint.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import { FORK_FSM, FORK_INIT, FORK_MAIN, FORK_VM, listForks, readFork, type ForkTag } from '../oracle/page-files.js';
import { baseBackupAt } from './stock-recovery.js';
import { SLRU_KINDS, type PageStream, type SlruDirectory, type StorageReader } from './storage-reader.js';

const PAGE_BYTES = 8192;
const FORK_NAMES = ['main', 'fsm', 'vm', 'init'];
/** More than enough to see what is wrong. */
const DIFFERENCES_MAX = 100_000;
/** Of a base backup, everything but SLRUs (compared on their own) and what only says where it begins. */
const SINGLE_FILES = /^(global\/pg_filenode\.map|base\/\d+\/(pg_filenode\.map|PG_VERSION)|PG_VERSION|pg_twophase\/.*)$/;

export interface Comparison {
  forks: number;
  pages: number;
  slruPages: number;
  files: number;
  preparedTransactions: number;
  differences: string[];
}

export async function compareWithRecovered(reader: StorageReader, at: Lsn, dataDir: string): Promise<Comparison> {
  const result = { forks: 0, pages: 0, slruPages: 0, files: 0, preparedTransactions: 0, differences: [] };
  await compareForks(reader, at, dataDir, result);
  for (const kind of Object.keys(SLRU_KINDS) as SlruDirectory[]) await compareSlru(reader, kind, at, dataDir, result);
  await compareBackup(reader, at, dataDir, result);
  return result;
}

function note(result: Comparison, difference: string): void {
  if (result.differences.length < DIFFERENCES_MAX) result.differences.push(difference);
}

function nameOf(tag: ForkTag): string {
  return `relation ${tag.spc}/${tag.db}/${tag.rel} ${FORK_NAMES[tag.fork]}`;
}

async function compareForks(reader: StorageReader, at: Lsn, dataDir: string, result: Comparison): Promise<void> {
  const forks = listForks(dataDir);
  const unlogged = new Set(forks.filter(({ fork }) => fork === FORK_INIT).map(({ db, rel }) => `${db}/${rel}`));
  const relations = new Map(forks.map((tag) => [`${tag.db}/${tag.rel}`, tag]));
  const onDisk = new Set(forks.map((tag) => nameOf(tag)));
  const databaseBytes = new Map<number, number>();
  using stream = reader.openPages(at);
  for (const [key, relation] of relations) {
    for (const fork of [FORK_MAIN, FORK_FSM, FORK_VM, FORK_INIT]) {
      const tag = { ...relation, fork };
      const blocks = await reader.forkBlocks(tag, at);
      databaseBytes.set(tag.db, (databaseBytes.get(tag.db) ?? 0) + (blocks ?? 0) * PAGE_BYTES);
      if (fork === FORK_FSM || (fork !== FORK_INIT && unlogged.has(key))) continue;
      if ((blocks !== null) !== onDisk.has(nameOf(tag))) {
        note(
          result,
          `${nameOf(tag)}: exists only ${blocks === null ? 'after recovery' : `in storage, ${blocks} blocks`}`,
        );
      } else if (blocks !== null) {
        result.forks += 1;
        await compareFork(stream, { tag, blocks, pages: readFork(dataDir, tag) }, result);
      }
    }
  }
  await compareTotals(reader, at, databaseBytes, result);
}

/** Storage has no relation that recovery does not have: the sizes of those compared add up to the databases' sizes. */
async function compareTotals(
  reader: StorageReader,
  at: Lsn,
  databaseBytes: ReadonlyMap<number, number>,
  result: Comparison,
): Promise<void> {
  for (const [database, bytes] of databaseBytes) {
    if (database === 0) continue;
    const inStorage = await reader.databaseBytes(database, at);
    if (inStorage !== bytes)
      note(result, `database ${database}: ${inStorage} bytes in storage, ${bytes} in known relations`);
  }
  const info = await reader.timeline();
  const total = [...databaseBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  if (Number(info.lastRecordLsn) === at && Number(info.logicalSizeBytes) !== total) {
    note(result, `all databases: ${info.logicalSizeBytes} bytes in storage, ${total} in known relations`);
  }
}

async function compareFork(
  stream: PageStream,
  fork: { readonly tag: ForkTag; readonly blocks: number; readonly pages: readonly Uint8Array[] },
  result: Comparison,
): Promise<void> {
  const { tag, blocks, pages } = fork;
  if (blocks !== pages.length) {
    note(result, `${nameOf(tag)}: ${blocks} blocks in storage, ${pages.length} after recovery`);
  }
  let block = 0;
  for await (const page of stream.read(tag, Math.min(blocks, pages.length))) {
    const difference = differenceOf(page, pages[block] ?? new Uint8Array(0));
    if (difference !== null) note(result, `${nameOf(tag)} block ${block}: ${difference}`);
    result.pages += 1;
    block += 1;
  }
}

/** Null when equal. */
function differenceOf(ours: Uint8Array, theirs: Uint8Array): string | null {
  if (Buffer.compare(ours, theirs) === 0) return null;
  if (ours.length !== theirs.length) return `${ours.length} bytes in storage, ${theirs.length} after recovery`;
  const at: number[] = [];
  for (let i = 0; i < ours.length; i++) if (ours[i] !== theirs[i]) at.push(i);
  const first = at
    .slice(0, 6)
    .map((offset) => `${offset} (${ours[offset]} in storage, ${theirs[offset]} after recovery)`);
  return `${at.length} bytes differ, at offsets ${first.join(', ')}${at.length > 6 ? ', …' : ''}`;
}

async function compareSlru(
  reader: StorageReader,
  kind: SlruDirectory,
  at: Lsn,
  dataDir: string,
  result: Comparison,
): Promise<void> {
  for (const name of readdirSync(join(dataDir, kind))) {
    const theirs = readFileSync(join(dataDir, kind, name));
    const ours = await reader.slruSegment(kind, parseInt(name, 16), at);
    const difference = ours === null ? 'missing in storage' : differenceOf(ours, theirs);
    if (difference !== null) note(result, `${kind}/${name}: ${difference}`);
    result.slruPages += theirs.length / PAGE_BYTES;
  }
}

/** A base backup has the same small files, and no SLRU segments that recovery does not have. */
async function compareBackup(reader: StorageReader, at: Lsn, dataDir: string, result: Comparison): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'neon-backup-'));
  try {
    const backup = join(root, 'data');
    await baseBackupAt(reader, at, backup);
    const ours = smallFiles(backup);
    const theirs = smallFiles(dataDir);
    for (const name of new Set([...ours.keys(), ...theirs.keys()])) {
      const [a, b] = [ours.get(name), theirs.get(name)];
      const difference =
        a === undefined || b === undefined
          ? `exists only ${a === undefined ? 'after recovery' : 'in the base backup'}`
          : differenceOf(a, b);
      if (difference !== null) note(result, `${name}: ${difference}`);
      result.files += 1;
      if (name.startsWith('pg_twophase/')) result.preparedTransactions += 1;
    }
    for (const kind of Object.keys(SLRU_KINDS)) {
      const [a, b] = [readdirSync(join(backup, kind)), readdirSync(join(dataDir, kind))];
      if (a.sort().join() !== b.sort().join())
        note(result, `${kind}: ${a.join()} in the base backup, ${b.join()} after recovery`);
    }
    compareControl(backup, dataDir, result);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function smallFiles(dataDir: string): Map<string, Buffer> {
  const names = readdirSync(dataDir, { recursive: true, encoding: 'utf8' }).filter((name) => SINGLE_FILES.test(name));
  return new Map(names.map((name) => [name, readFileSync(join(dataDir, name))]));
}

/** Where transaction ids, object ids and multixacts go on. */
function compareControl(backup: string, dataDir: string, result: Comparison): void {
  const [ours, theirs] = [backup, dataDir].map((dir) =>
    decodeControlFile(readFileSync(join(dir, 'global/pg_control'))),
  );
  if (ours === undefined || theirs === undefined) return;
  if (ours.checkPointLsn !== theirs.checkPointLsn) {
    note(
      result,
      `pg_control: the checkpoint is at ${ours.checkPointLsn} in the base backup, ${theirs.checkPointLsn} after recovery`,
    );
  }
  const text = (checkPoint: object): string =>
    JSON.stringify({ ...checkPoint, timeS: 0, fullPageWrites: false }, (_, value: unknown) =>
      typeof value === 'bigint' ? String(value) : value,
    );
  const [a, b] = [text(ours.checkPoint), text(theirs.checkPoint)];
  if (a !== b) note(result, `pg_control: ${a} in the base backup, ${b} after recovery`);
}
