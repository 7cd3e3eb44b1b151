/** The slow, obviously right twin of the store: every version ever put, kept in a list and searched from the end. */
import type { Lsn } from '#shared/core/lsn.js';
import type { Key } from '../../core/key.js';
import { compareKeys } from '../../core/key.js';
import { VALUE_IMAGE, VALUE_INIT, VALUE_TOMBSTONE } from '../../core/storage/store.js';
import type { ValueKind } from '../../core/storage/store.js';
import { foldPage } from './fold-redo.js';

interface Version {
  readonly key: Key;
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

export class StoreModel {
  versions: Version[] = [];
  readonly parent: { readonly model: StoreModel; readonly lsn: Lsn } | null;

  constructor(parent: { model: StoreModel; lsn: Lsn } | null = null) {
    this.parent = parent;
  }

  put(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    this.versions.push({ key, lsn, kind, value });
  }

  discardAbove(lsn: Lsn): void {
    this.versions = this.versions.filter((version) => version.lsn <= lsn);
  }

  /** Oldest first, the ancestor's part included. */
  private history(key: Key, at: Lsn): Version[] {
    const own = this.versions.filter((version) => version.key === key && version.lsn <= at);
    if (this.parent === null) return own;
    return [...this.parent.model.history(key, Math.min(at, this.parent.lsn) as Lsn), ...own];
  }

  /** Only the digest (first 64 bytes); null when there is no page. */
  page(key: Key, at: Lsn): Uint8Array | null {
    let page: Uint8Array | null = null;
    for (const { lsn, kind, value } of this.history(key, at)) {
      if (kind === VALUE_IMAGE) page = value.length === 0 ? new Uint8Array(8192) : value;
      else if (kind === VALUE_TOMBSTONE) page = null;
      else page = foldPage(kind === VALUE_INIT ? null : page, lsn, value);
    }
    return page;
  }

  get(key: Key, at: Lsn): Uint8Array | null {
    const newest = this.history(key, at).at(-1);
    return newest === undefined || newest.kind === VALUE_TOMBSTONE ? null : newest.value;
  }

  private allKeys(): Set<Key> {
    const keys = this.parent?.model.allKeys() ?? new Set<Key>();
    for (const { key } of this.versions) keys.add(key);
    return keys;
  }

  scan(start: Key, end: Key, at: Lsn): { key: Key; value: Uint8Array }[] {
    const keys = this.allKeys();
    const found: { key: Key; value: Uint8Array }[] = [];
    for (const key of keys) {
      if (compareKeys(key, start) < 0 || compareKeys(key, end) >= 0) continue;
      const value = this.get(key, at);
      if (value !== null) found.push({ key, value });
    }
    return found.sort((a, b) => compareKeys(a.key, b.key));
  }
}
