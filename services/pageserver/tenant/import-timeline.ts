/**
 * A root timeline from a base backup of a plain PostgreSQL (core/import/import-backup.ts, replay-backup.ts): streams in, holds little, tells
 * how far it is. The timeline's index says that it is being imported until all is in the object store, so that a crash on the way leaves
 * what the next load removes.
 */
import { errorText, StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { TarEntry } from '../core/basebackup/tar-entry.js';
import { readTar } from '../core/basebackup/tar-reader.js';
import { importBackupFiles } from '../core/import/import-backup.js';
import type { ImportedFiles } from '../core/import/import-backup.js';
import type { SettingsRef } from '../core/storage/tenant-settings.js';
import type { StorageEnv } from '../io/storage-env.js';
import { createImportTimeline, removeTimeline } from '../io/tenant-storage.js';
import type { Timeline } from '../io/timeline.js';
import { replayBackupWal } from './replay-backup.js';

const PG_MAJOR = 15;

export interface ImportSource {
  /** Bytes of base.tar. */
  readonly base: AsyncIterable<Uint8Array>;
  /** Bytes of a tar of WAL segments, read after `base`; may be empty. */
  readonly wal: AsyncIterable<Uint8Array>;
}

/** What watchers see; changes while the import goes on. */
export class ImportProgress {
  phase: 'files' | 'wal' | 'upload' = 'files';
  readonly counts = { relationBytes: 0, relationFiles: 0 };
  sourceSystemId = 0n;
  backupStartLsn: Lsn = INVALID_LSN;
  timeline: Timeline | null = null;

  /** End of the WAL replayed so far; 0 before that begins. */
  get replayedLsn(): Lsn {
    return this.phase === 'files' || this.timeline === null ? INVALID_LSN : this.timeline.lastRecordLsn;
  }
}

export interface ImportTarget {
  readonly storage: StorageEnv;
  readonly ttid: TenantTimelineId;
  readonly generation: number;
  readonly settings: SettingsRef;
  /** Given to the cluster in place of its own. */
  readonly systemId: bigint;
  readonly signal: AbortSignal;
}

/** Durable in the object store when it resolves; nothing is left when it fails. */
export async function importTimeline(
  target: ImportTarget,
  source: ImportSource,
  progress: ImportProgress,
): Promise<Timeline> {
  try {
    const timeline = await fill(target, source, progress);
    target.storage.log.info(
      { timeline: formatTtid(target.ttid), lsn: formatLsn(timeline.lastRecordLsn), ...progress.counts },
      'imported a base backup',
    );
    return timeline;
  } catch (error) {
    await progress.timeline?.close();
    if (progress.timeline !== null) await removeLeftovers(target);
    throw error;
  }
}

/** What cannot be removed now is removed by the next load. */
async function removeLeftovers({ storage, ttid }: ImportTarget): Promise<void> {
  await removeTimeline(storage, ttid).catch((error: unknown) =>
    storage.log.warn({ timeline: formatTtid(ttid), reason: errorText(error) }, 'could not remove a failed import'),
  );
}

async function fill(target: ImportTarget, source: ImportSource, progress: ImportProgress): Promise<Timeline> {
  const { storage, ttid, systemId, generation, settings } = target;
  const entries = readTar(abortable(source.base, target.signal))[Symbol.asyncIterator]();
  const open = async (begin: Lsn): Promise<Timeline> => {
    progress.timeline = await createImportTimeline(storage, ttid, { generation, pgMajor: PG_MAJOR, begin, settings });
    return progress.timeline;
  };
  const files = await importBackupFiles(entries, { systemId, counts: progress.counts, openStore: open });
  const { timeline } = progress;
  if (timeline === null) throw new StorageError('internal', 'an import without a timeline');
  progress.sourceSystemId = files.control.systemId;
  progress.backupStartLsn = files.label?.startLsn ?? timeline.lastRecordLsn;
  progress.phase = 'wal';
  const walTar = abortable(source.wal, target.signal);
  if (files.label !== null) {
    const segments = walEntries(files, entries, walTar);
    await replayBackupWal(timeline, { label: files.label, control: files.control, segments }, storage.log);
  } else {
    for await (const _ of walTar);
  }
  progress.phase = 'upload';
  const { segSize } = files.control;
  const position = { lsn: timeline.lastRecordLsn, prevRecordLsn: timeline.prevRecordLsn };
  await timeline.finishStreamedImport({ ...position, pgMajor: PG_MAJOR, systemId, segSize });
  target.signal.throwIfAborted();
  return timeline;
}

/** Segments that follow the files in their archive, then those of the WAL archive, if there is one. */
async function* walEntries(
  { firstSegment }: ImportedFiles,
  rest: AsyncIterator<TarEntry>,
  walTar: AsyncIterable<Uint8Array>,
): AsyncGenerator<TarEntry> {
  if (firstSegment !== null) {
    yield firstSegment;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
      if (next.value.type === 'file') yield next.value;
    }
  }
  const iterator = walTar[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  for await (const entry of readTar(continued(first.value, iterator))) if (entry.type === 'file') yield entry;
  // A reader stops at the archive's end mark; the sender may have padded behind it.
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next());
}

async function* continued(first: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

async function* abortable(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    signal.throwIfAborted();
    yield piece;
  }
  signal.throwIfAborted();
}
