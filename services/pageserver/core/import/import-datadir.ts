/**
 * Makes the first versions of a timeline from the data directory of a cleanly stopped cluster. Everything is put at one LSN, the
 * end of its shutdown checkpoint. Which files are taken, passed over or refused is in datadir-paths.ts.
 */
import { StorageError } from '#shared/core/errors.js';
import { CONTROL_FILE_BYTES } from '#shared/postgres/control-file.js';
import { fileEntry, type TarEntry } from '../basebackup/tar-entry.js';
import { putTrackerState } from '../ingest/checkpoint-state.js';
import { CONTROL_FILE_KEY } from '../keyspace.js';
import { type TimelineStore, VALUE_IMAGE } from '../storage/store.js';
import { type DataDirContent, DataDirImport, readWhole } from './data-dir-import.js';
import { parseDataDirPath } from './datadir-paths.js';
import { type ImportFacts, type ImportPlan, planImport } from './plan.js';

/** What comes before pg_control is held in memory; an archive of a larger directory must have it first. */
const HELD_BYTES_MAX = 1024 * 1024 * 1024;

export interface ImportOptions {
  /** Replaces the cluster's own. */
  readonly systemId?: bigint;
}

/**
 * Puts everything, then advances the store to the returned LSN. The store must be new and have the facts that planImport() tells
 * from pg_control. Throws StorageError `invalid` for a file that has no place in such a directory or has a wrong size, `unimplemented`
 * for tablespaces and other versions, `precondition` for a cluster that was not stopped cleanly.
 */
export async function importDataDir(
  entries: AsyncIterable<TarEntry> | Iterable<TarEntry>,
  store: TimelineStore,
  options: ImportOptions = {},
): Promise<ImportFacts> {
  const held: Array<{ content: DataDirContent; entry: TarEntry }> = [];
  let heldBytes = 0;
  let target: { plan: ImportPlan; files: DataDirImport } | null = null;
  for await (const entry of entries) {
    const path = parseDataDirPath(entry.path);
    if (path.kind === 'ignored' || path.kind === 'wal') continue;
    if (path.kind === 'refused') throw new StorageError('invalid', `cannot import ${entry.path}: ${path.reason}`);
    if (path.kind === 'control') {
      if (target !== null) throw new StorageError('invalid', 'the archive has two pg_control files');
      target = openImport(store, planImport(await readWhole(entry, CONTROL_FILE_BYTES), options));
      for (const early of held.splice(0)) await target.files.add(early.content, early.entry);
    } else if (target !== null) {
      await target.files.add(path, entry);
    } else {
      heldBytes += entry.sizeBytes;
      if (heldBytes > HELD_BYTES_MAX)
        throw new StorageError('exhausted', 'put global/pg_control first into the archive');
      const whole = entry.type === 'file' ? fileEntry(entry.path, await readWhole(entry, HELD_BYTES_MAX)) : entry;
      held.push({ content: path, entry: whole });
    }
  }
  if (target === null) throw new StorageError('invalid', 'this is not a data directory: it has no global/pg_control');
  const { plan, files } = target;
  const { lsn, prevRecordLsn, systemId, segSize, pgMajor } = plan;
  await files.finish(pgMajor);
  store.put(CONTROL_FILE_KEY, lsn, VALUE_IMAGE, plan.controlFile);
  putTrackerState(store, lsn, plan.tracker);
  store.advance(lsn, prevRecordLsn);
  return { lsn, prevRecordLsn, systemId, segSize, pgMajor };
}

function openImport(store: TimelineStore, plan: ImportPlan): { plan: ImportPlan; files: DataDirImport } {
  if (store.systemId !== plan.systemId || store.segSize !== plan.segSize || store.pgMajor !== plan.pgMajor) {
    const wanted = `system ${plan.systemId}, WAL segments of ${plan.segSize}, PostgreSQL ${plan.pgMajor}`;
    const found = `system ${store.systemId}, segments of ${store.segSize}, PostgreSQL ${store.pgMajor}`;
    throw new StorageError('invalid', `the timeline was made for ${found}; the data directory is of ${wanted}`);
  }
  const sink = {
    put: (key: Parameters<TimelineStore['put']>[0], value: Uint8Array) => store.put(key, plan.lsn, VALUE_IMAGE, value),
    room: () => store.waitForRoom(),
  };
  const files = new DataDirImport(sink, { isFuzzy: false, counts: { relationBytes: 0, relationFiles: 0 } });
  return { plan, files };
}

/** The pg_control file of an archive, for planImport: needed before the store can be made. Reads no further than that. */
export async function readControlFile(entries: AsyncIterable<TarEntry> | Iterable<TarEntry>): Promise<Uint8Array> {
  for await (const entry of entries) {
    if (parseDataDirPath(entry.path).kind === 'control') return readWhole(entry, CONTROL_FILE_BYTES);
  }
  throw new StorageError('invalid', 'this is not a data directory: it has no global/pg_control');
}
