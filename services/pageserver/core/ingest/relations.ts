/**
 * The relation forks of a timeline at the head of its WAL: which exist and how long they are. Owns relation size keys: a size
 * that a record changed is put once, when the record ends (`flush`).
 *
 * Invariant: every block below a relation's size has a version put since the relation got that long. So whatever older versions a
 * block has from before a truncation or a drop, they can never be read again.
 */
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import { type Key, makeKey } from '../key.js';
import {
  BLOCK_BYTES,
  decodeCount,
  encodeCount,
  formatRel,
  parseRelationSizeKey,
  relationBlocks,
  relationSizeKey,
  type RelTag,
} from '../keyspace.js';
import { type ScanEntry, type TimelineStore, VALUE_IMAGE, VALUE_TOMBSTONE } from '../storage/store.js';

/** A jump further than this past the end (32 GiB of blocks) is taken for damage. The largest honest one is a hash index that doubles. */
const GAP_BLOCKS_MAX = 1 << 22;
const EMPTY_PAGE = new Uint8Array(0);
const TOMBSTONE = new Uint8Array(0);

export class Relation implements RelTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  /** makeKey(blocks, n) is the key of block n. */
  readonly blocks: number;
  readonly sizeKey: Key;
  sizeBlocks = 0;
  exists = false;
  /** Of the newest change of size or existence; what is above holds from here on. */
  changedLsn: Lsn = INVALID_LSN;
  /** The present record changed it, and flush() has not put that yet. */
  unstored = false;
  /** Another relation with the same number and fork, in another database. */
  next: Relation | null = null;

  constructor(spc: number, db: number, rel: number, fork: number) {
    this.spc = spc;
    this.db = db;
    this.rel = rel;
    this.fork = fork;
    this.blocks = relationBlocks(spc, db, rel, fork);
    this.sizeKey = relationSizeKey(this);
  }
}

export class RelationTable {
  /** Chains of relations by relation number and fork. */
  private readonly chains = new Map<number, Relation>();
  private readonly changed: Relation[] = [];
  private readonly store: TimelineStore;
  private totalBlocks = 0;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  /** Takes the size keys found by a scan at `lsn`. */
  load(entries: readonly ScanEntry[], lsn: Lsn): void {
    for (const { key, value } of entries) {
      const { spc, db, rel, fork } = parseRelationSizeKey(key);
      const relation = this.obtain(spc, db, rel, fork);
      relation.exists = true;
      relation.sizeBlocks = decodeCount(value);
      relation.changedLsn = lsn;
      this.totalBlocks += relation.sizeBlocks;
    }
  }

  /** All forks of all relations. */
  get logicalSizeBytes(): number {
    return this.totalBlocks * BLOCK_BYTES;
  }

  /** A relation that exists or did; undefined when never heard of. */
  find(spc: number, db: number, rel: number, fork: number): Relation | undefined {
    let relation = this.chains.get(rel * 4 + fork) ?? null;
    while (relation !== null && (relation.db !== db || relation.spc !== spc)) relation = relation.next;
    return relation ?? undefined;
  }

  /** Like find, but makes an entry, which does not exist yet. */
  obtain(spc: number, db: number, rel: number, fork: number): Relation {
    const known = this.find(spc, db, rel, fork);
    if (known !== undefined) return known;
    const relation = new Relation(spc, db, rel, fork);
    const slot = rel * 4 + fork;
    relation.next = this.chains.get(slot) ?? null;
    this.chains.set(slot, relation);
    return relation;
  }

  /** Relations that exist, in no order. Walks all: for rare records. */
  *existing(): Generator<Relation> {
    for (const first of this.chains.values()) {
      for (let relation: Relation | null = first; relation !== null; relation = relation.next) {
        if (relation.exists) yield relation;
      }
    }
  }

  /** With size 0. Nothing when it exists already, as in Postgres' own redo. */
  create(relation: Relation, lsn: Lsn): void {
    if (relation.exists) return;
    relation.exists = true;
    relation.sizeBlocks = 0;
    this.mark(relation, lsn);
  }

  /**
   * Makes `block` part of the relation, which appears if it must; blocks in between become zero pages. The caller puts a version of
   * `block` that needs no older one if this says true.
   */
  include(relation: Relation, block: number, lsn: Lsn): boolean {
    const from = relation.sizeBlocks;
    if (block < from && relation.exists) return false;
    if (block - from > GAP_BLOCKS_MAX || block === 0xffff_ffff) {
      throw new StorageError(
        'corrupt',
        `WAL writes block ${block} of ${formatRel(relation)}, which has ${from} blocks`,
      );
    }
    for (let gap = from; gap < block; gap++) {
      this.store.put(makeKey(relation.blocks, gap), lsn, VALUE_IMAGE, EMPTY_PAGE);
    }
    this.totalBlocks += block + 1 - from;
    relation.sizeBlocks = block + 1;
    relation.exists = true;
    this.mark(relation, lsn);
    return true;
  }

  /** Never makes it longer. */
  truncate(relation: Relation, sizeBlocks: number, lsn: Lsn): void {
    if (!relation.exists || relation.sizeBlocks <= sizeBlocks) return;
    this.totalBlocks -= relation.sizeBlocks - sizeBlocks;
    relation.sizeBlocks = sizeBlocks;
    this.mark(relation, lsn);
  }

  drop(relation: Relation, lsn: Lsn): void {
    if (!relation.exists) return;
    this.totalBlocks -= relation.sizeBlocks;
    relation.exists = false;
    relation.sizeBlocks = 0;
    this.mark(relation, lsn);
  }

  /** Puts what the record at `lsn` changed. */
  flush(lsn: Lsn): void {
    if (this.changed.length === 0) return;
    for (const relation of this.changed) {
      relation.unstored = false;
      if (relation.exists) this.store.put(relation.sizeKey, lsn, VALUE_IMAGE, encodeCount(relation.sizeBlocks));
      else this.store.put(relation.sizeKey, lsn, VALUE_TOMBSTONE, TOMBSTONE);
    }
    this.changed.length = 0;
  }

  private mark(relation: Relation, lsn: Lsn): void {
    relation.changedLsn = lsn;
    if (relation.unstored) return;
    relation.unstored = true;
    this.changed.push(relation);
  }
}
