/**
 * Makes the first versions of a timeline from the data directory of a cleanly stopped cluster. Everything is put at one LSN, the
 * end of its shutdown checkpoint. Which files are taken, passed over or refused is in datadir-paths.ts.
 *
 * The main, FSM and VM forks of unlogged relations do not exist for storage; only their init forks do.
 */
import { StorageError, wrapError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { CONTROL_FILE_BYTES } from '#shared/postgres/control-file.js';
import { SLRU_PAGES_PER_SEGMENT } from '#shared/postgres/slru.js';
import { parseTwoPhaseFile, twoPhaseFileName } from '#shared/postgres/twophase.js';
import { fileEntry, type TarEntry } from '../basebackup/tar-entry.js';
import { putTrackerState } from '../ingest/checkpoint-state.js';
import { RELATION_MAP_BYTES } from '../ingest/databases.js';
import { makeKey } from '../key.js';
import {
  BLOCK_BYTES,
  CONTROL_FILE_KEY,
  databaseKey,
  type DatabaseTag,
  encodeCount,
  FORK_INIT,
  formatRel,
  GLOBAL_TABLESPACE,
  relationBlocks,
  relationSizeKey,
  type RelTag,
  slruBlocks,
  type SlruKind,
  slruSizeKey,
  twoPhaseKey,
} from '../keyspace.js';
import { type TimelineStore, VALUE_IMAGE } from '../storage/store.js';
import { type DataDirPath, parseDataDirPath } from './datadir-paths.js';
import { type ImportFacts, type ImportPlan, planImport } from './plan.js';

const SEGMENT_BLOCKS = 131072;
/** What comes before pg_control is held in memory; an archive of a larger directory must have it first. */
const HELD_BYTES_MAX = 1024 * 1024 * 1024;
const SMALL_FILE_BYTES_MAX = 16 * 1024 * 1024;
const ZERO_PAGE = new Uint8Array(BLOCK_BYTES);
const EMPTY = new Uint8Array(0);

type Content = Exclude<DataDirPath, { readonly kind: 'ignored' | 'refused' | 'control' }>;

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
  const held: Array<{ content: Content; entry: TarEntry }> = [];
  let heldBytes = 0;
  let target: DataDirImport | null = null;
  for await (const entry of entries) {
    const path = parseDataDirPath(entry.path);
    if (path.kind === 'ignored') continue;
    if (path.kind === 'refused') throw new StorageError('invalid', `cannot import ${entry.path}: ${path.reason}`);
    if (path.kind === 'control') {
      if (target !== null) throw new StorageError('invalid', 'the archive has two pg_control files');
      target = new DataDirImport(store, planImport(await readWhole(entry, CONTROL_FILE_BYTES), options));
      for (const early of held.splice(0)) await target.add(early.content, early.entry);
    } else if (target !== null) {
      await target.add(path, entry);
    } else {
      heldBytes += entry.sizeBytes;
      if (heldBytes > HELD_BYTES_MAX)
        throw new StorageError('exhausted', 'put global/pg_control first into the archive');
      const whole = entry.type === 'file' ? fileEntry(entry.path, await readWhole(entry, HELD_BYTES_MAX)) : entry;
      held.push({ content: path, entry: whole });
    }
  }
  if (target === null) throw new StorageError('invalid', 'this is not a data directory: it has no global/pg_control');
  return target.finish();
}

/** The pg_control file of an archive, for planImport: needed before the store can be made. Reads no further than that. */
export async function readControlFile(entries: AsyncIterable<TarEntry> | Iterable<TarEntry>): Promise<Uint8Array> {
  for await (const entry of entries) {
    if (parseDataDirPath(entry.path).kind === 'control') return readWhole(entry, CONTROL_FILE_BYTES);
  }
  throw new StorageError('invalid', 'this is not a data directory: it has no global/pg_control');
}

class DataDirImport {
  private readonly store: TimelineStore;
  private readonly plan: ImportPlan;
  private readonly lsn: Lsn;
  /** Blocks of each file segment of each fork, by formatRel. */
  private readonly relations = new Map<string, { rel: RelTag; segmentBlocks: number[] }>();
  private readonly databases = new Map<string, { tag: DatabaseTag; relationMap: Uint8Array }>();
  private version: string | null = null;

  constructor(store: TimelineStore, plan: ImportPlan) {
    if (store.systemId !== plan.systemId || store.segSize !== plan.segSize || store.pgMajor !== plan.pgMajor) {
      const wanted = `system ${plan.systemId}, WAL segments of ${plan.segSize}, PostgreSQL ${plan.pgMajor}`;
      const found = `system ${store.systemId}, segments of ${store.segSize}, PostgreSQL ${store.pgMajor}`;
      throw new StorageError('invalid', `the timeline was made for ${found}; the data directory is of ${wanted}`);
    }
    this.store = store;
    this.plan = plan;
    this.lsn = plan.lsn;
  }

  async add(content: Content, entry: TarEntry): Promise<void> {
    if (content.kind === 'database') {
      this.database(content.database);
      return;
    }
    if (entry.type === 'directory') return;
    try {
      await this.addFile(content, entry);
    } catch (error) {
      throw wrapError(`could not import ${entry.path}`, error);
    }
    await this.store.waitForRoom();
  }

  /** Puts sizes and directories, which are known only when all files were seen. */
  finish(): ImportFacts {
    const { store, lsn, plan } = this;
    if (this.version !== String(plan.pgMajor)) {
      throw new StorageError('invalid', `PG_VERSION says ${this.version ?? 'nothing'}, pg_control ${plan.pgMajor}`);
    }
    if (this.database({ spc: GLOBAL_TABLESPACE, db: 0 }).relationMap.length === 0) {
      throw new StorageError('invalid', 'the data directory has no global/pg_filenode.map');
    }
    for (const { rel, segmentBlocks } of this.relations.values()) {
      const sizeBlocks = joinSegments(rel, segmentBlocks);
      const unlogged = rel.fork !== FORK_INIT && this.relations.has(formatRel({ ...rel, fork: FORK_INIT }));
      if (!unlogged) store.put(relationSizeKey(rel), lsn, VALUE_IMAGE, encodeCount(sizeBlocks));
    }
    for (const { tag, relationMap } of this.databases.values()) {
      store.put(databaseKey(tag), lsn, VALUE_IMAGE, relationMap);
    }
    store.put(CONTROL_FILE_KEY, lsn, VALUE_IMAGE, plan.controlFile);
    putTrackerState(store, lsn, plan.tracker);
    store.advance(lsn, plan.prevRecordLsn);
    const { prevRecordLsn, systemId, segSize, pgMajor } = plan;
    return { lsn, prevRecordLsn, systemId, segSize, pgMajor };
  }

  private async addFile(content: Exclude<Content, { readonly kind: 'database' }>, entry: TarEntry): Promise<void> {
    switch (content.kind) {
      case 'version': {
        const version = Buffer.from(await readWhole(entry, 64))
          .toString('utf8')
          .trim();
        if (content.database === null) this.version = version;
        else this.database(content.database);
        return;
      }
      case 'relation-map': {
        const file = await readWhole(entry, RELATION_MAP_BYTES);
        if (file.length !== RELATION_MAP_BYTES) throw new StorageError('invalid', `it has ${file.length} bytes`);
        this.database(content.database).relationMap = file;
        return;
      }
      case 'relation':
        return this.addRelation(content.rel, content.segment, entry);
      case 'slru':
        return this.addSlru(content.slru, content.segno, entry);
      case 'two-phase': {
        const file = await readWhole(entry, SMALL_FILE_BYTES_MAX);
        const { xid } = parseTwoPhaseFile(file);
        if (xid !== content.xid) throw new StorageError('invalid', `it is ${twoPhaseFileName(xid)} by its content`);
        this.store.put(twoPhaseKey(xid), this.lsn, VALUE_IMAGE, file.slice(0, file.length - 4));
        return;
      }
    }
  }

  private async addRelation(rel: RelTag, segment: number, entry: TarEntry): Promise<void> {
    const blocks = relationBlocks(rel.spc, rel.db, rel.rel, rel.fork);
    const count = await this.putPages(blocks, segment * SEGMENT_BLOCKS, SEGMENT_BLOCKS, entry);
    const name = formatRel(rel);
    const known = this.relations.get(name) ?? { rel, segmentBlocks: [] };
    known.segmentBlocks[segment] = count;
    this.relations.set(name, known);
    if (rel.spc !== GLOBAL_TABLESPACE) this.database(rel);
  }

  private async addSlru(kind: SlruKind, segno: number, entry: TarEntry): Promise<void> {
    const pages = await this.putPages(slruBlocks(kind, segno), 0, SLRU_PAGES_PER_SEGMENT, entry);
    if (pages > 0) this.store.put(slruSizeKey(kind, segno), this.lsn, VALUE_IMAGE, encodeCount(pages));
  }

  private async putPages(blocks: number, first: number, countMax: number, entry: TarEntry): Promise<number> {
    if (entry.sizeBytes > countMax * BLOCK_BYTES) throw new StorageError('invalid', `it has ${entry.sizeBytes} bytes`);
    let block = first;
    for await (const page of wholePages(entry)) {
      const value = Buffer.compare(page, ZERO_PAGE) === 0 ? EMPTY : page;
      this.store.put(makeKey(blocks, block++), this.lsn, VALUE_IMAGE, value);
    }
    return block - first;
  }

  private database(tag: DatabaseTag): { tag: DatabaseTag; relationMap: Uint8Array } {
    const name = `${tag.spc}/${tag.db}`;
    const known = this.databases.get(name) ?? { tag: { spc: tag.spc, db: tag.db }, relationMap: EMPTY };
    this.databases.set(name, known);
    return known;
  }
}

/** Every file but the last must be full. */
function joinSegments(rel: RelTag, segmentBlocks: readonly (number | undefined)[]): number {
  let total = 0;
  for (let segment = 0; segment < segmentBlocks.length; segment++) {
    const blocks = segmentBlocks[segment];
    const isLast = segment === segmentBlocks.length - 1;
    if (blocks === undefined || (!isLast && blocks !== SEGMENT_BLOCKS)) {
      throw new StorageError('invalid', `file ${segment} of relation ${formatRel(rel)} is missing or too short`);
    }
    total += blocks;
  }
  return total;
}

/** Pages of their own memory, whatever pieces the bytes come in. */
async function* wholePages(entry: TarEntry): AsyncGenerator<Uint8Array> {
  let page = new Uint8Array(BLOCK_BYTES);
  let filled = 0;
  for await (const piece of entry.pieces) {
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + BLOCK_BYTES - filled);
      page.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < BLOCK_BYTES) continue;
      yield page;
      page = new Uint8Array(BLOCK_BYTES);
      filled = 0;
    }
  }
  if (filled !== 0) throw new StorageError('invalid', 'its size is not a multiple of 8192');
}

async function readWhole(entry: TarEntry, bytesMax: number): Promise<Uint8Array> {
  if (entry.sizeBytes > bytesMax) {
    throw new StorageError('invalid', `${entry.path} has ${entry.sizeBytes} bytes, more than ${bytesMax}`);
  }
  const out = new Uint8Array(entry.sizeBytes);
  let length = 0;
  for await (const piece of entry.pieces) {
    if (length + piece.length > out.length) throw new StorageError('invalid', `${entry.path} is longer than announced`);
    out.set(piece, length);
    length += piece.length;
  }
  if (length !== out.length) throw new StorageError('invalid', `${entry.path} is shorter than announced`);
  return out;
}
