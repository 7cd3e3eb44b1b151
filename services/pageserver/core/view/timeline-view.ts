/**
 * Typed reads of a timeline at an LSN, over its store. `at` must lie at or below the store's lastRecordLsn; callers wait for that.
 * Owns nothing; a WalIngest of the same timeline, when given, answers for the head what else would need a look-up.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, type Lsn } from '#shared/core/lsn.js';
import type { TrackerState } from '#shared/postgres/checkpoint-tracker.js';
import { readTrackerState } from '../ingest/checkpoint-state.js';
import { keyBlock, makeKey } from '../key.js';
import { type AuxFile, decodeAuxFiles, decodeOrigin, isOwn } from '../aux-files.js';
import {
  AUX_FILE_RANGE,
  BLOCK_BYTES,
  CONTROL_FILE_KEY,
  DATABASE_RANGE,
  type DatabaseTag,
  decodeCount,
  DEFAULT_TABLESPACE,
  FORK_FSM,
  FORK_INIT,
  FORK_VM,
  formatRel,
  type KeyRange,
  ORIGIN_RANGE,
  parseDatabaseKey,
  parseRelationSizeKey,
  parseSlruSizeKey,
  parseTwoPhaseKey,
  RELATION_SIZE_RANGE,
  relationBlocks,
  relationSizeKey,
  relationSizeRange,
  type RelTag,
  slruBlocks,
  type SlruKind,
  slruSizeKey,
  slruSizeRange,
  TWO_PHASE_RANGE,
} from '../keyspace.js';
import type { TimelineStore } from '../storage/store.js';

/** Pages asked of the store at one time when many are wanted. */
const PAGES_AT_ONCE = 64;
const ZERO_PAGE = new Uint8Array(BLOCK_BYTES);

export interface SizedRelation extends RelTag {
  readonly sizeBlocks: number;
}

export interface Database extends DatabaseTag {
  /** The pg_filenode.map file; null for a directory without one. */
  readonly relationMap: Uint8Array | null;
}

export interface SizedSegment {
  readonly segno: number;
  readonly pages: number;
}

export interface PreparedTransaction {
  readonly xid: number;
  /** The state file without its CRC. */
  readonly state: Uint8Array;
}

export interface DatedAuxFile extends AuxFile {
  /** The end of the record that brought it, or one with the same hash. */
  readonly putLsn: Lsn;
}

/** How far the changes of another server have been taken over. */
export interface OriginProgress {
  readonly id: number;
  readonly remoteLsn: Lsn;
}

/** What WalIngest knows of sizes at the head; undefined = ask the store. */
export interface HeadSizes {
  relationSize(rel: RelTag, at: Lsn): number | null | undefined;
}

export class TimelineView {
  readonly store: TimelineStore;
  private readonly head: HeadSizes | null;

  constructor(store: TimelineStore, head: HeadSizes | null = null) {
    this.store = store;
    this.head = head;
  }

  /** Blocks of a fork; null when it does not exist. */
  async relSize(rel: RelTag, at: Lsn): Promise<number | null> {
    const known = this.head?.relationSize(rel, at);
    if (known !== undefined) return known;
    const value = await this.store.get(relationSizeKey(rel), at);
    return value === null ? null : decodeCount(value);
  }

  /**
   * 8192 bytes that belong to a cache: copy before changing. Zeros at and beyond the end of the relation, and for a map (FSM, VM) that
   * does not exist. StorageError `not-found` ("relation not found: …") for another fork that does not exist.
   */
  async page(rel: RelTag, block: number, at: Lsn): Promise<Uint8Array> {
    const size = await this.relSize(rel, at);
    if (size === null && rel.fork !== FORK_FSM && rel.fork !== FORK_VM) {
      throw new StorageError('not-found', `relation not found: ${formatRel(rel)}`);
    }
    if (size === null || block >= size) return ZERO_PAGE;
    const blocks = relationBlocks(rel.spc, rel.db, rel.rel, rel.fork);
    return (await this.store.getPage(makeKey(blocks, block), at)) ?? ZERO_PAGE;
  }

  /** All pages of a fork in order, or a part of them, by batches; nothing for one that does not exist. */
  async *relationPages(
    rel: RelTag,
    at: Lsn,
    part: { readonly first: number; readonly count: number } = { first: 0, count: Infinity },
  ): AsyncGenerator<Uint8Array> {
    const size = (await this.relSize(rel, at)) ?? 0;
    const end = Math.min(size, part.first + part.count);
    yield* this.storedPages(relationBlocks(rel.spc, rel.db, rel.rel, rel.fork), { first: part.first, end }, at);
  }

  /** Bytes of all forks of the relations that the database has in the default tablespace. */
  async dbSize(dbOid: number, at: Lsn): Promise<number> {
    const relations = await this.relationsIn(relationSizeRange({ spc: DEFAULT_TABLESPACE, db: dbOid }), at);
    return relations.reduce((bytes, relation) => bytes + relation.sizeBlocks * BLOCK_BYTES, 0);
  }

  /** Bytes of all forks of all relations. */
  async logicalSize(at: Lsn): Promise<number> {
    const relations = await this.relations(at);
    return relations.reduce((bytes, relation) => bytes + relation.sizeBlocks * BLOCK_BYTES, 0);
  }

  /** All forks of all relations, ordered by tablespace, database, relation and fork. */
  relations(at: Lsn): Promise<SizedRelation[]> {
    return this.relationsIn(RELATION_SIZE_RANGE, at);
  }

  /** The init forks of unlogged relations. */
  async initForks(at: Lsn): Promise<SizedRelation[]> {
    return (await this.relations(at)).filter((relation) => relation.fork === FORK_INIT);
  }

  /** Directories of databases, with the one of shared relations: database 0 in the global tablespace. */
  async databases(at: Lsn): Promise<Database[]> {
    const entries = await this.store.scan(DATABASE_RANGE.start, DATABASE_RANGE.end, at);
    return entries.map(({ key, value }) => ({
      ...parseDatabaseKey(key),
      relationMap: value.length === 0 ? null : value,
    }));
  }

  async slruSegments(kind: SlruKind, at: Lsn): Promise<SizedSegment[]> {
    const range = slruSizeRange(kind);
    const entries = await this.store.scan(range.start, range.end, at);
    return entries.map(({ key, value }) => ({ segno: parseSlruSizeKey(key).segno, pages: decodeCount(value) }));
  }

  /** The pages of a segment that exist, as its file has them; null when there is no such segment. */
  async slruSegment(kind: SlruKind, segno: number, at: Lsn): Promise<Uint8Array | null> {
    const value = await this.store.get(slruSizeKey(kind, segno), at);
    if (value === null) return null;
    const pages = decodeCount(value);
    const out = new Uint8Array(pages * BLOCK_BYTES);
    let length = 0;
    for await (const page of this.storedPages(slruBlocks(kind, segno), { first: 0, end: pages }, at)) {
      out.set(page, length);
      length += BLOCK_BYTES;
    }
    return out;
  }

  async preparedTransactions(at: Lsn): Promise<PreparedTransaction[]> {
    const entries = await this.store.scan(TWO_PHASE_RANGE.start, TWO_PHASE_RANGE.end, at);
    return entries.map(({ key, value }) => ({ xid: parseTwoPhaseKey(key), state: value }));
  }

  /** The timeline's own, not those of its ancestor. */
  async auxFiles(at: Lsn): Promise<DatedAuxFile[]> {
    const entries = await this.store.scan(AUX_FILE_RANGE.start, AUX_FILE_RANGE.end, at);
    return entries.flatMap(({ value }) => {
      const { putLsn, files } = decodeAuxFiles(value);
      return isOwn(putLsn, this.store.ancestor) ? files.map((file) => ({ ...file, putLsn })) : [];
    });
  }

  /** The timeline's own, by id. */
  async origins(at: Lsn): Promise<OriginProgress[]> {
    const entries = await this.store.scan(ORIGIN_RANGE.start, ORIGIN_RANGE.end, at);
    return entries.flatMap(({ key, value }) => {
      const { putLsn, remoteLsn } = decodeOrigin(value);
      return isOwn(putLsn, this.store.ancestor) ? [{ id: keyBlock(key), remoteLsn }] : [];
    });
  }

  /** What a shutdown checkpoint written at `at` must say. */
  tracker(at: Lsn): Promise<TrackerState> {
    return readTrackerState(this.store, at);
  }

  /** pg_control of the image that the timeline began with, with its system identifier. */
  async controlFile(at: Lsn): Promise<Uint8Array> {
    const file = await this.store.get(CONTROL_FILE_KEY, at);
    if (file === null) throw new StorageError('corrupt', `the timeline has no pg_control at ${formatLsn(at)}`);
    return file;
  }

  private async relationsIn(range: KeyRange, at: Lsn): Promise<SizedRelation[]> {
    const entries = await this.store.scan(range.start, range.end, at);
    return entries.map(({ key, value }) => ({ ...parseRelationSizeKey(key), sizeBlocks: decodeCount(value) }));
  }

  private async *storedPages(
    blocks: number,
    { first, end }: { readonly first: number; readonly end: number },
    at: Lsn,
  ): AsyncGenerator<Uint8Array> {
    for (let from = first; from < end; from += PAGES_AT_ONCE) {
      const numbers = Array.from({ length: Math.min(PAGES_AT_ONCE, end - from) }, (_, i) => from + i);
      const keys = numbers.map((block) => makeKey(blocks, block));
      for (const page of await this.store.getPages(keys, at)) {
        if (page instanceof StorageError) throw page;
        yield page ?? ZERO_PAGE;
      }
    }
  }
}
