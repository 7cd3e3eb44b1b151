/**
 * Takes the files of a base backup, of any size, into a new timeline: either of a running server (backup_label comes first, as
 * pg_basebackup writes it) or of one that was stopped cleanly (pg_control comes first).
 *
 * Memory stays bounded: values are put at rising LSNs below the one at which the timeline begins, so that in-memory layers can be frozen,
 * written and uploaded on the way like those of ingest. Nobody may read there: the timeline's cutoff lies above.
 *
 * A backup of a running server is one state only after the WAL from its start has been replayed over it (io of that is the caller's).
 */
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsn, type Lsn } from '#shared/core/lsn.js';
import {
  CONTROL_FILE_BYTES,
  type ControlFile,
  decodeControlFile,
  withSystemId,
} from '#shared/postgres/control-file.js';
import type { TarEntry } from '../basebackup/tar-entry.js';
import { fileEntry } from '../basebackup/tar-entry.js';
import { putTrackerState } from '../ingest/checkpoint-state.js';
import type { Key } from '../key.js';
import { CONTROL_FILE_KEY } from '../keyspace.js';
import { type TimelineStore, VALUE_IMAGE } from '../storage/store.js';
import { BACKUP_LABEL, BACKUP_LABEL_BYTES_MAX, type BackupLabel, parseBackupLabel } from './backup-label.js';
import { type DataDirContent, DataDirImport, type ImportCounts, readWhole, type ValueSink } from './data-dir-import.js';
import { type DataDirPath, parseDataDirPath } from './datadir-paths.js';
import { planImport } from './plan.js';

/** Of a stopped cluster's archive, before pg_control: small files only. */
const HELD_BYTES_MAX = 64 * 1024 * 1024;
/** An LSN is used for as many bytes: a layer can be frozen between two. */
const STEP_BYTES = 16 * 1024 * 1024;
/** LSNs below the first of the timeline that are used: 8 TiB of files. No cluster begins lower, its first segment has a MiB at least. */
const STEPS_MAX = 1 << 19;
/** What a version costs beside its bytes. */
const VERSION_BYTES = 48;
const PG_MAJOR = 15;

export interface ImportedFiles {
  readonly store: TimelineStore;
  /** Null: of a cleanly stopped cluster, complete without WAL. */
  readonly label: BackupLabel | null;
  /** As the source has it. */
  readonly control: ControlFile;
  /** The first WAL segment in the archive, behind all other files; its pieces are unread. */
  readonly firstSegment: TarEntry | null;
}

export interface BackupImportOptions {
  /** Given to the cluster in place of its own. */
  readonly systemId: bigint;
  readonly counts: ImportCounts;
  /** Makes the store: its last record ends at `begin`, and it has nothing. */
  openStore(begin: Lsn): Promise<TimelineStore>;
}

/** Puts values at rising LSNs up to `end`. */
class StepSink implements ValueSink {
  private readonly store: TimelineStore;
  private readonly end: Lsn;
  private at: Lsn;
  private bytes = 0;

  constructor(store: TimelineStore, end: Lsn) {
    this.store = store;
    this.end = end;
    this.at = lsn(store.lastRecordLsn + 1);
  }

  get lsn(): Lsn {
    return this.at;
  }

  put(key: Key, value: Uint8Array): void {
    this.store.put(key, this.at, VALUE_IMAGE, value);
    this.bytes += value.length + VERSION_BYTES;
  }

  async room(): Promise<void> {
    if (this.bytes >= STEP_BYTES) {
      if (this.at + 1 >= this.end) throw new StorageError('exhausted', 'the cluster has more than 8 TiB');
      this.store.advance(this.at, INVALID_LSN);
      this.at = lsn(this.at + 1);
      this.bytes = 0;
    }
    await this.store.waitForRoom();
  }
}

/**
 * Reads `entries` up to the first WAL segment or the end. Throws StorageError `invalid` for what is no such backup, `precondition` for a
 * cluster that was neither stopped nor backed up, `unimplemented` for tablespaces and other versions.
 */
export async function importBackupFiles(
  entries: AsyncIterator<TarEntry>,
  options: BackupImportOptions,
): Promise<ImportedFiles> {
  const found = new BackupFiles(options);
  for (let next = await entries.next(); next.done !== true; next = await entries.next()) {
    const entry = next.value;
    const path = pathOf(entry);
    if (path.kind === 'wal' && found.isRunningServer) return found.finish(entry);
    if (path.kind !== 'ignored' && path.kind !== 'wal') await found.take(path, entry);
  }
  return found.finish(null);
}

function pathOf(entry: TarEntry): DataDirPath | { readonly kind: 'label' } {
  if (entry.path === BACKUP_LABEL || entry.path === `./${BACKUP_LABEL}`) return { kind: 'label' };
  // pg_basebackup writes it also when there are no tablespaces.
  if (entry.path === 'tablespace_map' && entry.sizeBytes === 0) return { kind: 'ignored' };
  const path = parseDataDirPath(entry.path);
  if (path.kind === 'refused') throw new StorageError('invalid', `cannot import ${entry.path}: ${path.reason}`);
  return path;
}

class BackupFiles {
  private readonly options: BackupImportOptions;
  private label: BackupLabel | null = null;
  private control: { readonly file: Uint8Array; readonly fields: ControlFile } | null = null;
  private held: Array<{ content: DataDirContent; entry: TarEntry }> = [];
  private heldBytes = 0;
  private target: { readonly store: TimelineStore; readonly sink: StepSink; readonly files: DataDirImport } | null =
    null;

  constructor(options: BackupImportOptions) {
    this.options = options;
  }

  get isRunningServer(): boolean {
    return this.label !== null;
  }

  async take(
    path: DataDirContent | Extract<DataDirPath, { kind: 'control' | 'refused' }> | { readonly kind: 'label' },
    entry: TarEntry,
  ): Promise<void> {
    switch (path.kind) {
      case 'refused':
        return;
      case 'label':
        return this.takeLabel(await readWhole(entry, BACKUP_LABEL_BYTES_MAX));
      case 'control':
        return this.takeControl(await readWhole(entry, CONTROL_FILE_BYTES));
      default:
        return this.target === null ? this.hold(path, entry) : this.target.files.add(path, entry);
    }
  }

  private async takeLabel(bytes: Uint8Array): Promise<void> {
    if (this.label !== null || this.control !== null) {
      throw new StorageError(
        'invalid',
        `${BACKUP_LABEL} must come first and once: use the tar that pg_basebackup wrote`,
      );
    }
    this.label = parseBackupLabel(bytes);
    await this.open(this.label.startLsn);
  }

  private async takeControl(file: Uint8Array): Promise<void> {
    if (this.control !== null) throw new StorageError('invalid', 'the archive has two pg_control files');
    if (this.label === null) await this.open(planImport(file).lsn);
    this.control = { file, fields: decodeControlFile(file) };
  }

  private async open(end: Lsn): Promise<void> {
    const store = await this.options.openStore(lsn(Math.max(1, end - STEPS_MAX)));
    const sink = new StepSink(store, end);
    const files = new DataDirImport(sink, { isFuzzy: this.label !== null, counts: this.options.counts });
    this.target = { store, sink, files };
    for (const { content, entry } of this.held.splice(0)) await files.add(content, entry);
  }

  private async hold(content: DataDirContent, entry: TarEntry): Promise<void> {
    this.heldBytes += entry.sizeBytes;
    if (this.heldBytes > HELD_BYTES_MAX) {
      throw new StorageError(
        'invalid',
        `put global/pg_control (of a running server: ${BACKUP_LABEL}) first into the archive`,
      );
    }
    const whole = entry.type === 'file' ? fileEntry(entry.path, await readWhole(entry, HELD_BYTES_MAX)) : entry;
    this.held.push({ content, entry: whole });
  }

  async finish(firstSegment: TarEntry | null): Promise<ImportedFiles> {
    const { label, control, target } = this;
    if (control === null || target === null) {
      throw new StorageError('invalid', 'this is not a data directory: it has no global/pg_control before its WAL');
    }
    const { store, sink, files } = target;
    await files.finish(PG_MAJOR);
    const { checkPoint, params } = control.fields;
    sink.put(CONTROL_FILE_KEY, withSystemId(control.file, this.options.systemId));
    putTrackerState(store, sink.lsn, { checkPoint, params });
    if (label === null) {
      const plan = planImport(control.file);
      store.advance(plan.lsn, plan.prevRecordLsn);
    } else {
      // Its counters may be those of a later checkpoint than the backup's: the WAL between only raises them, and sets them again.
      store.advance(label.startLsn, INVALID_LSN);
    }
    return { store, label, control: control.fields, firstSegment };
  }
}
