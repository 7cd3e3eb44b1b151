/**
 * Materialised pages, bounded by bytes over all timelines of the process.
 *
 * An entry (lsn, upTo, page) says: `page` is the key's state from its newest version `lsn` on, and no newer version exists at or below
 * `upTo`. So a read at any LSN in [lsn, upTo] is a hit at once, and a later read only has to look for versions above `upTo`.
 */
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../key.js';
import { ByteLru } from './byte-lru.js';
import type { LruEntry } from './byte-lru.js';

/** Versions kept of one page: the newest for computes at the head, older ones for branches and replicas. */
const VERSIONS_MAX = 3;
const ENTRY_OVERHEAD_BYTES = 200;

export interface PageEntry extends LruEntry {
  readonly owner: TimelinePages;
  readonly key: Key;
  readonly lsn: Lsn;
  upTo: Lsn;
  readonly page: Uint8Array;
}

export class PageCache {
  readonly lru: ByteLru<PageEntry>;

  constructor(capacityBytes: number) {
    this.lru = new ByteLru(capacityBytes, (entry) => entry.owner.forget(entry));
  }
}

/** The pages of one timeline. */
export class TimelinePages {
  hitCount = 0;
  missCount = 0;
  private readonly cache: PageCache;
  /** Newest version first. */
  private readonly entries = new Map<Key, PageEntry[]>();

  constructor(cache: PageCache) {
    this.cache = cache;
  }

  /** The newest page with lsn <= at; what lies between its `upTo` and `at` the caller must look up. */
  find(key: Key, at: Lsn): PageEntry | null {
    const versions = this.entries.get(key);
    if (versions === undefined) return null;
    for (const entry of versions) {
      if (entry.lsn > at) continue;
      this.cache.lru.touch(entry);
      return entry;
    }
    return null;
  }

  /** `page` becomes the cache's: callers share it and must not change it. */
  add(key: Key, version: { lsn: Lsn; upTo: Lsn }, page: Uint8Array): void {
    const versions = this.entries.get(key) ?? [];
    const same = versions.find((entry) => entry.lsn === version.lsn);
    if (same !== undefined) {
      if (same.upTo < version.upTo) same.upTo = version.upTo;
      return;
    }
    const sizeBytes = page.length + ENTRY_OVERHEAD_BYTES;
    const entry: PageEntry = { owner: this, key, ...version, page, sizeBytes, newer: null, older: null };
    versions.push(entry);
    versions.sort((a, b) => b.lsn - a.lsn);
    this.entries.set(key, versions);
    if (versions.length > VERSIONS_MAX) {
      const oldest = versions.pop();
      if (oldest === entry) return;
      if (oldest !== undefined) this.cache.lru.remove(oldest);
    }
    this.cache.lru.add(entry);
  }

  /** Called by the cache for an evicted entry. */
  forget(entry: PageEntry): void {
    const versions = this.entries.get(entry.key);
    const at = versions?.indexOf(entry) ?? -1;
    if (versions === undefined || at < 0) return;
    versions.splice(at, 1);
    if (versions.length === 0) this.entries.delete(entry.key);
  }

  /** Gives all memory back when the timeline stops. */
  clear(): void {
    for (const versions of this.entries.values()) {
      for (const entry of versions) this.cache.lru.remove(entry);
    }
    this.entries.clear();
  }
}
