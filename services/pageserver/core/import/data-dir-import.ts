/**
 * Turns the files of a data directory into values of a new timeline. Owns what is known only when all files were seen: sizes and directories.
 *
 * The main, FSM and VM forks of unlogged relations do not exist for storage; only their init forks do.
 *
 * Files of a running server (`isFuzzy`) were copied while it went on: one may end in the middle of a page, or be gone before its
 * successor was read. WAL that is replayed over them makes all of that good, so what is missing counts as zeros, as in the server's own
 * recovery.
 */
import { StorageError, wrapError } from '#shared/core/errors.js';
import { SLRU_PAGES_PER_SEGMENT } from '#shared/postgres/slru.js';
import { parseTwoPhaseFile, twoPhaseFileName } from '#shared/postgres/twophase.js';
import type { TarEntry } from '../basebackup/tar-entry.js';
import { RELATION_MAP_BYTES } from '../ingest/databases.js';
import { type Key, makeKey } from '../key.js';
import {
  BLOCK_BYTES,
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
import type { DataDirPath } from './datadir-paths.js';

const SEGMENT_BLOCKS = 131072;
const SMALL_FILE_BYTES_MAX = 16 * 1024 * 1024;
const ZERO_PAGE = new Uint8Array(BLOCK_BYTES);
const EMPTY = new Uint8Array(0);

export type DataDirContent = Exclude<DataDirPath, { readonly kind: 'ignored' | 'refused' | 'control' | 'wal' }>;

/** Where values go. */
export interface ValueSink {
  /** `value` becomes the sink's. */
  put(key: Key, value: Uint8Array): void;
  /** Resolves when there is room for more; asked for after a file, and now and then within one. */
  room(): Promise<void>;
}

/** For those who watch. */
export interface ImportCounts {
  relationBytes: number;
  relationFiles: number;
}

export interface DataDirImportOptions {
  readonly isFuzzy: boolean;
  readonly counts: ImportCounts;
}

/** Pages put between two looks for room: a file may have a gigabyte. */
const PAGES_PER_LOOK = 1024;

export class DataDirImport {
  private readonly sink: ValueSink;
  private readonly options: DataDirImportOptions;
  /** Blocks of each file segment of each fork, by formatRel. */
  private readonly relations = new Map<string, { rel: RelTag; segmentBlocks: number[] }>();
  private readonly databases = new Map<string, { tag: DatabaseTag; relationMap: Uint8Array }>();
  private version: string | null = null;

  constructor(sink: ValueSink, options: DataDirImportOptions) {
    this.sink = sink;
    this.options = options;
  }

  async add(content: DataDirContent, entry: TarEntry): Promise<void> {
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
    await this.sink.room();
  }

  /** Puts sizes and directories. `pgMajor`: as pg_control says. */
  async finish(pgMajor: number): Promise<void> {
    const { sink, options } = this;
    if (this.version !== String(pgMajor)) {
      throw new StorageError('invalid', `PG_VERSION says ${this.version ?? 'nothing'}, pg_control ${pgMajor}`);
    }
    if (this.database({ spc: GLOBAL_TABLESPACE, db: 0 }).relationMap.length === 0) {
      throw new StorageError('invalid', 'the data directory has no global/pg_filenode.map');
    }
    for (const { rel, segmentBlocks } of this.relations.values()) {
      const unlogged = rel.fork !== FORK_INIT && this.relations.has(formatRel({ ...rel, fork: FORK_INIT }));
      if (options.isFuzzy && !unlogged) this.fillHoles(rel, segmentBlocks);
      const sizeBlocks = joinSegments(rel, segmentBlocks);
      if (!unlogged) sink.put(relationSizeKey(rel), encodeCount(sizeBlocks));
      await sink.room();
    }
    for (const { tag, relationMap } of this.databases.values()) sink.put(databaseKey(tag), relationMap);
  }

  /** Every file but the last gets its full size. */
  private fillHoles(rel: RelTag, segmentBlocks: number[]): void {
    const blocks = relationBlocks(rel.spc, rel.db, rel.rel, rel.fork);
    for (let segment = 0; segment < segmentBlocks.length - 1; segment++) {
      for (let block = segmentBlocks[segment] ?? 0; block < SEGMENT_BLOCKS; block++) {
        this.sink.put(makeKey(blocks, segment * SEGMENT_BLOCKS + block), EMPTY);
      }
      segmentBlocks[segment] = SEGMENT_BLOCKS;
    }
  }

  private async addFile(
    content: Exclude<DataDirContent, { readonly kind: 'database' }>,
    entry: TarEntry,
  ): Promise<void> {
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
        this.sink.put(twoPhaseKey(xid), file.slice(0, file.length - 4));
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
    const { counts } = this.options;
    counts.relationFiles++;
    counts.relationBytes += count * BLOCK_BYTES;
    if (rel.spc !== GLOBAL_TABLESPACE) this.database(rel);
  }

  private async addSlru(kind: SlruKind, segno: number, entry: TarEntry): Promise<void> {
    const pages = await this.putPages(slruBlocks(kind, segno), 0, SLRU_PAGES_PER_SEGMENT, entry);
    if (pages > 0) this.sink.put(slruSizeKey(kind, segno), encodeCount(pages));
  }

  private async putPages(blocks: number, first: number, countMax: number, entry: TarEntry): Promise<number> {
    if (entry.sizeBytes > countMax * BLOCK_BYTES) throw new StorageError('invalid', `it has ${entry.sizeBytes} bytes`);
    let block = first;
    for await (const page of wholePages(entry, this.options.isFuzzy)) {
      const value = Buffer.compare(page, ZERO_PAGE) === 0 ? EMPTY : page;
      this.sink.put(makeKey(blocks, block++), value);
      if ((block - first) % PAGES_PER_LOOK === 0) await this.sink.room();
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
async function* wholePages(entry: TarEntry, isFuzzy: boolean): AsyncGenerator<Uint8Array> {
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
  if (filled !== 0 && !isFuzzy) throw new StorageError('invalid', 'its size is not a multiple of 8192');
}

export async function readWhole(entry: TarEntry, bytesMax: number): Promise<Uint8Array> {
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
