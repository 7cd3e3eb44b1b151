/**
 * Reads of one timeline as the edges want them. Owns the shortcut for the usual case: the relation's size is known to ingest, the page is
 * in memory, nothing has to be waited for.
 */
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { type Key, makeKey } from '../core/key.js';
import {
  BLOCK_BYTES,
  FORK_COUNT,
  FORK_FSM,
  FORK_VM,
  formatRel,
  relationBlocks,
  type RelTag,
  SLRU_KINDS,
} from '../core/keyspace.js';
import { shardOfPage } from '../core/shard-keys.js';
import type { TimelineStore } from '../core/storage/store.js';
import type { HeadSizes, TimelineView } from '../core/view/timeline-view.js';
import { type PageAddress, type PageReader, relationNotFound } from '../edge/page-reader.js';

const ZERO_PAGE = new Uint8Array(BLOCK_BYTES);
/** Direct-mapped; a power of two. */
const PREFIX_CACHE_SIZE = 1024;

/** A store that can say at once whether a page is in memory. */
export interface FastStore extends TimelineStore {
  readonly minReadableLsn: Lsn;
  readonly isClosed: boolean;
  /** As getPage; undefined when IO is needed. */
  tryGetPage(key: Key, at: Lsn): Uint8Array | null | undefined;
}

/** Where new WAL comes from, as a waiting reader sees it. */
export interface WalSupply {
  /** Somebody waits; the function returned is called when the wait is over. */
  noteReaderWaits(): () => void;
  /** Why no WAL can be ingested; empty = it can. */
  readonly brokenReason: string;
}

interface CachedPrefix {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly prefix: number;
}

export class TimelineReader implements PageReader {
  readonly #head: HeadSizes;
  readonly #store: FastStore;
  readonly #shard: ShardIdentity;
  readonly #view: TimelineView;
  readonly #supply: WalSupply;
  readonly #prefixes: CachedPrefix[] = [];

  constructor(store: FastStore, view: TimelineView, head: HeadSizes, supply: WalSupply) {
    this.#store = store;
    this.#shard = store.shard;
    this.#view = view;
    this.#head = head;
    this.#supply = supply;
  }

  get lastRecordLsn(): Lsn {
    return this.#store.lastRecordLsn;
  }

  get minReadableLsn(): Lsn {
    return this.#store.minReadableLsn;
  }

  async waitLsn(lsn: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (lsn <= this.#store.lastRecordLsn) return;
    const endWait = this.#supply.noteReaderWaits();
    try {
      await this.#store.waitLsn(lsn, timeoutMs, signal);
    } catch (error) {
      const { brokenReason } = this.#supply;
      if (brokenReason === '' || errorKind(error) !== 'unavailable') throw error;
      throw new StorageError('unavailable', errorText(error), { cause: brokenReason });
    } finally {
      endWait();
    }
  }

  tryPage(rel: RelTag, block: number, at: Lsn): Uint8Array | undefined {
    this.#check(rel);
    if (this.#shard.count > 1) this.#checkShard(rel, block);
    const size = this.#head.relationSize(rel, at);
    if (size === undefined) return undefined;
    if (size === null) return missingFork(rel);
    if (block >= size) return ZERO_PAGE;
    return this.#store.tryGetPage(makeKey(this.#prefix(rel), block), at) ?? undefined;
  }

  async page(rel: RelTag, block: number, at: Lsn): Promise<Uint8Array> {
    this.#checkShard(rel, block);
    const size = await this.relSize(rel, at);
    if (size === null) return missingFork(rel);
    if (block >= size) return ZERO_PAGE;
    const page = await this.#store.getPage(makeKey(this.#prefix(rel), block), at);
    if (page !== null) return page;
    throw noVersion({ ...rel, block }, at);
  }

  async pages(
    wanted: readonly PageAddress[],
    at: Lsn,
    signal?: AbortSignal,
  ): Promise<Array<Uint8Array | StorageError>> {
    const outcomes = await Promise.all(wanted.map((address) => this.#keyOf(address, at)));
    const places = [...outcomes.keys()].filter((i) => typeof outcomes[i] === 'number');
    const keys = places.map((i) => outcomes[i] as Key);
    const pages = await this.#store.getPages(keys, at, signal);
    pages.forEach((page, n) => {
      const i = places[n]!;
      outcomes[i] = page ?? noVersion(wanted[i]!, at);
    });
    return outcomes as Array<Uint8Array | StorageError>;
  }

  /** Key of a page that is to be read; the page itself past the end of its relation; why not. */
  async #keyOf(address: PageAddress, at: Lsn): Promise<Key | Uint8Array | StorageError> {
    try {
      this.#checkShard(address, address.block);
      const known = this.#store.isClosed ? undefined : this.#head.relationSize(address, at);
      const size = known === undefined ? await this.relSize(address, at) : known;
      if (size === null) return missingFork(address);
      return address.block >= size ? ZERO_PAGE : makeKey(this.#prefix(address), address.block);
    } catch (error) {
      if (error instanceof StorageError) return error;
      throw error;
    }
  }

  async relSize(rel: RelTag, at: Lsn): Promise<number | null> {
    this.#check(rel);
    return this.#view.relSize(rel, at);
  }

  async dbSize(db: number, at: Lsn): Promise<number> {
    if (this.#store.isClosed) throw closed();
    return this.#view.dbSize(db, at);
  }

  async slruSegment(kind: number, segno: number, at: Lsn): Promise<Uint8Array | null> {
    if (this.#store.isClosed) throw closed();
    const { number, count } = this.#shard;
    if (number > 0) throw new StorageError('precondition', `this is shard ${number} of ${count}; shard 0 has SLRUs`);
    const known = SLRU_KINDS.find((candidate) => candidate === kind);
    return known === undefined ? null : this.#view.slruSegment(known, segno, at);
  }

  /** A compute with an old shard map: its connection is closed, so that it comes again, with the new one if there is one. */
  #checkShard(rel: RelTag, block: number): void {
    const shard = this.#shard;
    const owner = shardOfPage(shard, rel, block);
    if (owner === shard.number) return;
    const what = `block ${block} of ${formatRel(rel)} lies on shard ${owner} of ${shard.count}`;
    throw new StorageError('fenced', `${what}; this is shard ${shard.number}`);
  }

  /** A connection may outlive the timeline that it reads: what a closed one remembers is out of date. */
  #check(rel: RelTag): void {
    if (this.#store.isClosed) throw closed();
    if (rel.fork >= FORK_COUNT) throw new StorageError('invalid', `there is no fork ${rel.fork}`);
  }

  /** Interned key prefixes of the relations read last: interning builds a text. */
  #prefix(rel: RelTag): number {
    const slot = (rel.rel * 4 + rel.fork) & (PREFIX_CACHE_SIZE - 1);
    const cached = this.#prefixes[slot];
    if (cached?.rel === rel.rel && cached.fork === rel.fork && cached.db === rel.db && cached.spc === rel.spc) {
      return cached.prefix;
    }
    const prefix = relationBlocks(rel.spc, rel.db, rel.rel, rel.fork);
    this.#prefixes[slot] = { spc: rel.spc, db: rel.db, rel: rel.rel, fork: rel.fork, prefix };
    return prefix;
  }
}

/** Ingest puts a version of every block that a relation has: better no answer than a page that may be wrong. */
function noVersion(address: PageAddress, at: Lsn): StorageError {
  return new StorageError(
    'corrupt',
    `block ${address.block} of ${formatRel(address)} has no version at ${formatLsn(at)}, and should have one`,
  );
}

function closed(): StorageError {
  return new StorageError('cancelled', 'the timeline was closed');
}

/** A map that was never made reads as zeros; a relation that does not exist is an error. */
function missingFork(rel: RelTag): Uint8Array {
  if (rel.fork === FORK_FSM || rel.fork === FORK_VM) return ZERO_PAGE;
  throw relationNotFound(rel);
}
