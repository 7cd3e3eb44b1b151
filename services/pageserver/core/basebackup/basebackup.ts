/**
 * The data directory of a compute at an LSN, without the files of permanent relations: what an unmodified server needs to start
 * there without recovery. pg_control comes last: a backup that was cut off cannot be started.
 *
 * The files of pg_wal are plan.segments, which are zeros almost everywhere and therefore go their own way. postgresql.conf is the compute's
 * own.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { DATA_DIRECTORIES } from '#shared/postgres/data-directories.js';
import type { CheckPoint } from '#shared/postgres/checkpoint.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { physicalSlotState } from '#shared/postgres/replication-slot.js';
import {
  clogPage,
  multiMemberPage,
  multiOffsetPage,
  slruPageInSegment,
  slruSegment,
  slruSegmentName,
} from '#shared/postgres/slru.js';
import { twoPhaseFileName } from '#shared/postgres/twophase.js';
import { STATISTICS_PATH } from '../aux-files.js';
import {
  BLOCK_BYTES,
  type DatabaseTag,
  DEFAULT_TABLESPACE,
  FORK_INIT,
  GLOBAL_TABLESPACE,
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_DIRECTORIES,
  SLRU_KINDS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  type SlruKind,
} from '../keyspace.js';
import type { Database, DatedAuxFile, OriginProgress, SizedRelation, TimelineView } from '../view/timeline-view.js';
import { type BaseBackupOptions, type BaseBackupPlan, planBaseBackup } from './plan.js';
import { directoryEntry, FILE_MODE, fileEntry, type TarEntry } from './tar-entry.js';

/** The slot by which the compute's WAL sender keeps WAL until the proposer has it. */
export const WALPROPOSER_SLOT = 'walproposer';

const HBA = [
  '# A skeleton: local connections only. The compute writes its own.',
  'local all all trust',
  'host all all 127.0.0.1/32 trust',
  'host all all ::1/128 trust',
  'local replication all trust',
  'host replication all 127.0.0.1/32 trust',
  'host replication all ::1/128 trust',
  '',
].join('\n');

const ORIGIN_MAGIC = 0x1257dade;

/** `plan`: from planBaseBackup with the same view and options, when the caller needs it as well. */
export async function* baseBackup(
  view: TimelineView,
  options: BaseBackupOptions,
  plan?: BaseBackupPlan,
): AsyncGenerator<TarEntry> {
  const made = plan ?? (await planBaseBackup(view, options));
  const { lsn } = made;
  for (const path of DATA_DIRECTORIES) yield directoryEntry(path);
  yield fileEntry('PG_VERSION', text(`${made.pgMajor}\n`));
  yield fileEntry('pg_hba.conf', text(HBA));
  yield fileEntry('pg_ident.conf');
  yield fileEntry('postgresql.auto.conf');
  for (const kind of SLRU_KINDS) yield* slruFiles(view, kind, made.checkPoint, lsn);
  yield* databaseFiles(await view.databases(lsn), made);
  for (const fork of await view.initForks(lsn)) yield* unloggedFiles(view, fork, made);
  for (const { xid, state } of await view.preparedTransactions(lsn)) {
    yield fileEntry(`pg_twophase/${twoPhaseFileName(xid)}`, state, crcOf(state));
  }
  yield* auxiliaryFiles(await view.auxFiles(lsn), made);
  const origins = await view.origins(lsn);
  if (origins.length > 0) yield fileEntry('pg_logical/replorigin_checkpoint', originFile(origins));
  if (!made.replica) {
    yield directoryEntry(`pg_replslot/${WALPROPOSER_SLOT}`);
    const state = physicalSlotState({ name: WALPROPOSER_SLOT, restartLsn: lsn });
    yield fileEntry(`pg_replslot/${WALPROPOSER_SLOT}/state`, state);
  }
  yield fileEntry('global/pg_control', made.controlFile);
}

/** All segments, with the page that the server reads first at start in any case; it makes that of commit times itself. */
async function* slruFiles(
  view: TimelineView,
  kind: SlruKind,
  checkPoint: CheckPoint,
  lsn: Lsn,
): AsyncGenerator<TarEntry> {
  const needed = pageOfNext(kind, checkPoint);
  const segments = await view.slruSegments(kind, lsn);
  const neededSegment = needed === null ? -1 : slruSegment(needed);
  if (needed !== null && !segments.some(({ segno }) => segno === neededSegment))
    segments.push({ segno: neededSegment, pages: 0 });
  for (const { segno } of segments) {
    const bytes = (await view.slruSegment(kind, segno, lsn)) ?? new Uint8Array(0);
    const wanted = needed !== null && segno === neededSegment ? (slruPageInSegment(needed) + 1) * BLOCK_BYTES : 0;
    const missing = new Uint8Array(Math.max(0, wanted - bytes.length));
    yield fileEntry(`${SLRU_DIRECTORIES[kind]}/${slruSegmentName(segno)}`, bytes, missing);
  }
}

function pageOfNext(kind: SlruKind, checkPoint: CheckPoint): number | null {
  switch (kind) {
    case SLRU_CLOG:
      return clogPage(Number(BigInt.asUintN(32, checkPoint.nextXid)));
    case SLRU_MULTIXACT_OFFSETS:
      return multiOffsetPage(checkPoint.nextMulti);
    case SLRU_MULTIXACT_MEMBERS:
      return multiMemberPage(checkPoint.nextMultiOffset);
    case SLRU_COMMIT_TS:
      return null;
  }
}

function* databaseFiles(databases: readonly Database[], plan: BaseBackupPlan): Generator<TarEntry> {
  const tablespaces = new Set(databases.map(({ spc }) => spc).filter(isUserTablespace));
  for (const spc of tablespaces) {
    yield directoryEntry(`pg_tblspc/${spc}`);
    yield directoryEntry(tablespaceDirectory(spc, plan));
  }
  for (const database of databases) {
    const directory = databaseDirectory(database, plan);
    if (database.spc !== GLOBAL_TABLESPACE) {
      yield directoryEntry(directory);
      yield fileEntry(`${directory}/PG_VERSION`, text(`${plan.pgMajor}\n`));
    }
    if (database.relationMap !== null) yield fileEntry(`${directory}/pg_filenode.map`, database.relationMap);
  }
}

/**
 * A standby must not hold the slots of its primary. Statistics are true only right behind the stop that wrote them; after anything else
 * they are as lost as after a crash.
 */
function* auxiliaryFiles(files: readonly DatedAuxFile[], plan: BaseBackupPlan): Generator<TarEntry> {
  const slots = new Set<string>();
  for (const { path, content, putLsn } of files) {
    const slot = /^(pg_replslot\/[^/]+)\//.exec(path)?.[1];
    if (slot !== undefined && plan.replica) continue;
    if (path === STATISTICS_PATH && putLsn !== plan.lsn) continue;
    if (slot !== undefined && !slots.has(slot)) {
      slots.add(slot);
      yield directoryEntry(slot);
    }
    yield fileEntry(path, content);
  }
}

/** u32 magic, per origin u16 id, 6 zero bytes, u64 position; CRC-32C of all that. */
function originFile(origins: readonly OriginProgress[]): Uint8Array {
  const bytes = new Uint8Array(4 + 16 * origins.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ORIGIN_MAGIC, true);
  origins.forEach(({ id, remoteLsn }, i) => {
    view.setUint16(4 + 16 * i, id, true);
    view.setBigUint64(12 + 16 * i, BigInt(remoteLsn), true);
  });
  return Buffer.concat([bytes, crcOf(bytes)]);
}

/** The server makes the main fork anew from the init fork when it recovers; here it does not recover. */
async function* unloggedFiles(view: TimelineView, fork: SizedRelation, plan: BaseBackupPlan): AsyncGenerator<TarEntry> {
  const main = `${databaseDirectory(fork, plan)}/${fork.rel}`;
  for (const path of [`${main}_init`, main]) {
    yield {
      path,
      mode: FILE_MODE,
      type: 'file',
      sizeBytes: fork.sizeBlocks * BLOCK_BYTES,
      pieces: view.relationPages({ ...fork, fork: FORK_INIT }, plan.lsn),
    };
  }
}

function isUserTablespace(spc: number): boolean {
  return spc !== DEFAULT_TABLESPACE && spc !== GLOBAL_TABLESPACE;
}

function databaseDirectory(tag: DatabaseTag, plan: BaseBackupPlan): string {
  if (tag.spc === GLOBAL_TABLESPACE) return 'global';
  if (tag.spc === DEFAULT_TABLESPACE) return `base/${tag.db}`;
  return `${tablespaceDirectory(tag.spc, plan)}/${tag.db}`;
}

/** Tablespaces become plain directories: links of the server that made them lead nowhere here. */
function tablespaceDirectory(spc: number, plan: BaseBackupPlan): string {
  return `pg_tblspc/${spc}/PG_${plan.pgMajor}_${plan.catalogVersion}`;
}

function crcOf(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, crc32c(bytes), true);
  return out;
}

function text(value: string): Uint8Array {
  return Buffer.from(value, 'utf8');
}
