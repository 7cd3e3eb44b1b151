/**
 * Page reads of one timeline: cache of materialised pages, look-up, redo. Owns what may be kept in the cache and up to which LSN.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError, wrapError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../core/key.js';
import { formatKey } from '../core/key.js';
import type { KeyLookup } from '../core/storage/key-lookup.js';
import type { PageEntry, TimelinePages } from '../core/storage/page-cache.js';
import type { PageOutcome } from '../core/storage/store.js';
import { lookupMany } from './lookup-many.js';
import type { LayerFile } from './layer-file.js';
import type { Reader, Source } from './reader.js';
import type { ReconstructPage } from './storage-env.js';

const PAGE_BYTES = 8192;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

/** The timeline whose pages are read. */
export interface PageSource extends Source {
  readonly ttid: TenantTimelineId;
  readonly isClosed: boolean;
  /** Throws StorageError `invalid` for an LSN whose history is gone. */
  checkReadable(at: Lsn): void;
}

export class PageReads {
  private readonly source: PageSource;
  private readonly reader: Reader;
  private readonly pages: TimelinePages;
  private readonly reconstructPage: ReconstructPage;

  constructor(source: PageSource, reader: Reader, pages: TimelinePages, reconstructPage: ReconstructPage) {
    this.source = source;
    this.reader = reader;
    this.pages = pages;
    this.reconstructPage = reconstructPage;
  }

  /** The page when no file must be read and no ancestor waited for, else undefined. */
  tryGet(key: Key, at: Lsn): Uint8Array | null | undefined {
    this.source.checkReadable(at);
    const cached = this.pages.find(key, at);
    if (cached !== null && cached.upTo >= at) {
      this.pages.hitCount++;
      return cached.page;
    }
    const lookup = this.reader.tryLookup(this.source, key, at, cached);
    return lookup === undefined ? undefined : this.materialise(key, lookup, { at, upTo: this.knownUpTo(at), cached });
  }

  async get(key: Key, at: Lsn): Promise<Uint8Array | null> {
    const page = this.tryGet(key, at);
    if (page !== undefined) return page;
    const cached = this.pages.find(key, at);
    // Taken before the lookup: versions that are put while it waits are not in what it finds.
    const upTo = this.knownUpTo(at);
    const lookup = await this.reader.lookup(this.source, key, at, cached);
    // Garbage collection may have taken layers away under the lookup.
    this.source.checkReadable(at);
    return this.materialise(key, lookup, { at, upTo, cached });
  }

  /** One plan for all keys: what several of them need is loaded once. One that fails does not fail the others. */
  async getMany(keys: readonly Key[], at: Lsn, signal?: AbortSignal): Promise<PageOutcome[]> {
    const outcomes = keys.map((key) => outcomeOf(() => this.tryGet(key, at)));
    const missing = [...outcomes.keys()].filter((i) => outcomes[i] === undefined);
    if (missing.length === 0) return outcomes as PageOutcome[];
    const upTo = this.knownUpTo(at);
    const wanted = missing.map((i) => ({ key: keys[i]!, floor: this.pages.find(keys[i]!, at) }));
    const lookups = await lookupMany(this.reader, { source: this.source, wanted, at, signal });
    lookups.forEach((lookup, n) => {
      const { key, floor: cached } = wanted[n]!;
      outcomes[missing[n]!] = outcomeOf(() => {
        if (lookup instanceof StorageError) throw lookup;
        this.source.checkReadable(at);
        return this.materialise(key, lookup, { at, upTo, cached });
      });
    });
    return outcomes as PageOutcome[];
  }

  /** Where a lookup at `at` that starts now is final: above the last record more versions may still come. */
  private knownUpTo(at: Lsn): Lsn {
    return lsnMin(at, this.source.lastRecordLsn);
  }

  private materialise(
    key: Key,
    lookup: KeyLookup<LayerFile>,
    read: { at: Lsn; upTo: Lsn; cached: PageEntry | null },
  ): Uint8Array | null {
    const { at, upTo, cached } = read;
    if (lookup.absent) return null;
    if (cached !== null && lookup.records.length === 0 && lookup.newestLsn === cached.lsn) {
      if (cached.upTo < upTo) cached.upTo = upTo;
      this.pages.hitCount++;
      return cached.page;
    }
    this.pages.missCount++;
    const page = this.rebuild(key, at, lookup);
    if (lookup.newestLsn <= upTo && !this.source.isClosed) {
      this.pages.add(key, { lsn: lookup.newestLsn, upTo }, page);
    }
    return page;
  }

  private rebuild(key: Key, at: Lsn, lookup: KeyLookup<LayerFile>): Uint8Array {
    const { base, records } = lookup;
    try {
      if (base !== null && base.length !== 0 && base.length !== PAGE_BYTES) {
        throw new StorageError('corrupt', `its image has ${base.length} bytes`);
      }
      const image = base === null ? null : base.length === 0 ? ZERO_PAGE : base;
      // A slice of its own: the image may be a part of a larger block.
      if (records.length === 0) return image === null ? new Uint8Array(PAGE_BYTES) : image.slice();
      return this.reconstructPage(image, records.toReversed());
    } catch (error) {
      throw wrapError(`page ${formatKey(key)} at ${formatLsn(at)} of ${formatTtid(this.source.ttid)}`, error);
    }
  }
}

function outcomeOf<T>(act: () => T): T | StorageError {
  try {
    return act();
  } catch (error) {
    if (error instanceof AssertionFailure) throw error;
    return error instanceof StorageError
      ? error
      : new StorageError('internal', 'a page could not be read', { cause: error });
  }
}
