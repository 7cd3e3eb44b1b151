/**
 * A whole data directory at an LSN, relation files included, that a plain server starts from: the base backup (basebackup.ts) without
 * what only a compute needs, and with what only a plain server needs. pg_control and the WAL come last, so that a directory unpacked in part
 * does not start.
 */
import type { FilePiece, SegmentFile } from '#shared/postgres/wal-synthesis.js';
import { BLOCK_BYTES, DEFAULT_TABLESPACE, FORK_INIT, GLOBAL_TABLESPACE } from '../keyspace.js';
import type { SizedRelation, TimelineView } from '../view/timeline-view.js';
import { baseBackup } from './basebackup.js';
import type { BaseBackupPlan } from './plan.js';
import { FILE_MODE, fileEntry, type TarEntry } from './tar-entry.js';

/** Of a relation's file: 1 GiB. */
const SEGMENT_BLOCKS = 131072;
const FORK_SUFFIXES = ['', '_fsm', '_vm', '_init'];
const ZEROS = new Uint8Array(64 * 1024);

/** Forks that have files of their own here: those of unlogged relations are made by the base backup. */
export async function exportedRelations(view: TimelineView, plan: BaseBackupPlan): Promise<SizedRelation[]> {
  const relations = await view.relations(plan.lsn);
  return relations.filter(({ fork, spc }) => {
    return fork !== FORK_INIT && (spc === DEFAULT_TABLESPACE || spc === GLOBAL_TABLESPACE);
  });
}

/** `plan`: for a replica. `relations`: from exportedRelations; `onFile` is told of each of their files behind it. */
export async function* fullBackup(
  view: TimelineView,
  plan: BaseBackupPlan,
  relations: readonly SizedRelation[],
  onFile: (sizeBytes: number) => void = () => undefined,
): AsyncGenerator<TarEntry> {
  const { params } = await view.tracker(plan.lsn);
  yield fileEntry('postgresql.conf', Buffer.from(settingsText(params), 'utf8'));
  for await (const entry of baseBackup(view, plan, plan)) {
    for (const relation of entry.path === 'global/pg_control' ? relations : []) {
      for (const file of relationFiles(view, relation, plan)) {
        yield file;
        onFile(file.sizeBytes);
      }
    }
    yield entry;
  }
  for (const segment of plan.segments) yield segmentFile(segment);
}

/** What the server must not have less of than the one before, and else only its defaults. */
function settingsText(params: Awaited<ReturnType<TimelineView['tracker']>>['params']): string {
  return [
    '# Written by an export: the settings that this cluster had. All else is default.',
    `max_connections = ${params.maxConnections}`,
    `max_worker_processes = ${params.maxWorkerProcesses}`,
    `max_wal_senders = ${params.maxWalSenders}`,
    `max_prepared_transactions = ${params.maxPreparedXacts}`,
    `max_locks_per_transaction = ${params.maxLocksPerXact}`,
    `wal_level = ${params.walLevel === 0 ? 'minimal' : params.walLevel === 1 ? 'replica' : 'logical'}`,
    `wal_log_hints = ${params.walLogHints ? 'on' : 'off'}`,
    `track_commit_timestamp = ${params.trackCommitTimestamp ? 'on' : 'off'}`,
    '',
  ].join('\n');
}

function* relationFiles(view: TimelineView, relation: SizedRelation, plan: BaseBackupPlan): Generator<TarEntry> {
  const directory = relation.spc === GLOBAL_TABLESPACE ? 'global' : `base/${relation.db}`;
  const name = `${directory}/${relation.rel}${FORK_SUFFIXES[relation.fork]}`;
  for (let first = 0, segment = 0; first === 0 || first < relation.sizeBlocks; first += SEGMENT_BLOCKS, segment++) {
    const count = Math.min(SEGMENT_BLOCKS, relation.sizeBlocks - first);
    yield {
      path: segment === 0 ? name : `${name}.${segment}`,
      mode: FILE_MODE,
      type: 'file',
      sizeBytes: count * BLOCK_BYTES,
      pieces: view.relationPages(relation, plan.lsn, { first, count }),
    };
  }
}

function segmentFile({ name, sizeBytes, pieces }: SegmentFile): TarEntry {
  return { path: `pg_wal/${name}`, mode: FILE_MODE, type: 'file', sizeBytes, pieces: filled(pieces, sizeBytes) };
}

function* filled(pieces: readonly FilePiece[], sizeBytes: number): Generator<Uint8Array> {
  let at = 0;
  for (const { offset, bytes } of pieces) {
    yield* zeros(offset - at);
    yield bytes;
    at = offset + bytes.length;
  }
  yield* zeros(sizeBytes - at);
}

function* zeros(count: number): Generator<Uint8Array> {
  for (let left = count; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
}
