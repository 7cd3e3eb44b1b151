/**
 * Reads of one timeline as the edges want them. Owns the shortcut for the usual case: the relation's size is known to ingest, the page is
 * in memory, nothing has to be waited for.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { type Key, makeKey } from '../core/key.js';
import { BLOCK_BYTES, FORK_FSM, FORK_VM, relationBlocks, type RelTag, SLRU_KINDS } from '../core/keyspace.js';
import type { TimelineStore } from '../core/storage/store.js';
import type { HeadSizes, TimelineView } from '../core/view/timeline-view.js';
import { type PageReader, relationNotFound } from '../edge/page-reader.js';

const ZERO_PAGE = new Uint8Array(BLOCK_BYTES);
/** Direct-mapped; a power of two. */
const PREFIX_CACHE_SIZE = 1024;

/** A store that can say at once whether a page is in memory. */
export interface FastStore extends TimelineStore {
  readonly minReadableLsn: Lsn;
  /** As getPage; undefined when IO is needed. */
  tryGetPage(key: Key, at: Lsn): Uint8Array | null | undefined;
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
  readonly #view: TimelineView;
  readonly #onWait: () => () => void;
  readonly #prefixes: CachedPrefix[] = [];

  /** `onWait` is told that somebody waits for WAL; the function it returns is called when the wait is over. */
  constructor(store: FastStore, view: TimelineView, head: HeadSizes, onWait: () => () => void) {
    this.#store = store;
    this.#view = view;
    this.#head = head;
    this.#onWait = onWait;
  }

  get lastRecordLsn(): Lsn {
    return this.#store.lastRecordLsn;
  }

  get minReadableLsn(): Lsn {
    return this.#store.minReadableLsn;
  }

  async waitLsn(lsn: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (lsn <= this.#store.lastRecordLsn) return;
    const endWait = this.#onWait();
    try {
      await this.#store.waitLsn(lsn, timeoutMs, signal);
    } finally {
      endWait();
    }
  }

  tryPage(rel: RelTag, block: number, at: Lsn): Uint8Array | undefined {
    const size = this.#head.relationSize(rel, at);
    if (size === undefined) return undefined;
    if (size === null) return missingFork(rel);
    if (block >= size) return ZERO_PAGE;
    return this.#store.tryGetPage(makeKey(this.#prefix(rel), block), at) ?? undefined;
  }

  async page(rel: RelTag, block: number, at: Lsn): Promise<Uint8Array> {
    const size = await this.relSize(rel, at);
    if (size === null) return missingFork(rel);
    if (block >= size) return ZERO_PAGE;
    return (await this.#store.getPage(makeKey(this.#prefix(rel), block), at)) ?? ZERO_PAGE;
  }

  relSize(rel: RelTag, at: Lsn): Promise<number | null> {
    return this.#view.relSize(rel, at);
  }

  dbSize(db: number, at: Lsn): Promise<number> {
    return this.#view.dbSize(db, at);
  }

  async slruSegment(kind: number, segno: number, at: Lsn): Promise<Uint8Array | null> {
    const known = SLRU_KINDS.find((candidate) => candidate === kind);
    return known === undefined ? null : this.#view.slruSegment(known, segno, at);
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

/** A map that was never made reads as zeros; a relation that does not exist is an error. */
function missingFork(rel: RelTag): Uint8Array {
  if (rel.fork === FORK_FSM || rel.fork === FORK_VM) return ZERO_PAGE;
  throw relationNotFound(rel);
}
