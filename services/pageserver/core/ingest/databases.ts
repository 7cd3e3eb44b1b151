/** The database directories of a timeline at the head of its WAL, and their relation map files. Owns database keys. */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { databaseKey, type DatabaseTag, parseDatabaseKey } from '../keyspace.js';
import { type ScanEntry, type TimelineStore, VALUE_IMAGE, VALUE_TOMBSTONE } from '../storage/store.js';

/** sizeof(RelMapFile) of PostgreSQL 15. */
export const RELATION_MAP_BYTES = 512;
const EMPTY = new Uint8Array(0);

export class DatabaseTable {
  private readonly tags = new Map<string, DatabaseTag>();
  private readonly store: TimelineStore;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  load(entries: readonly ScanEntry[]): void {
    for (const { key } of entries) {
      const tag = parseDatabaseKey(key);
      this.tags.set(textOf(tag), tag);
    }
  }

  existing(): DatabaseTag[] {
    return [...this.tags.values()];
  }

  has(tag: DatabaseTag): boolean {
    return this.tags.has(textOf(tag));
  }

  /** A directory without a relation map; nothing when it is there. At most once a record for one database. */
  create(tag: DatabaseTag, lsn: Lsn): void {
    if (this.has(tag)) return;
    this.tags.set(textOf(tag), { spc: tag.spc, db: tag.db });
    this.store.put(databaseKey(tag), lsn, VALUE_IMAGE, EMPTY);
  }

  /** Creates it if need be. `bytes` becomes the store's. */
  setRelationMap(tag: DatabaseTag, lsn: Lsn, bytes: Uint8Array): void {
    if (bytes.length !== RELATION_MAP_BYTES) {
      throw new StorageError('corrupt', `relation map of ${textOf(tag)} has ${bytes.length} bytes`);
    }
    this.tags.set(textOf(tag), tag);
    this.store.put(databaseKey(tag), lsn, VALUE_IMAGE, bytes);
  }

  drop(tag: DatabaseTag, lsn: Lsn): void {
    if (!this.tags.delete(textOf(tag))) return;
    this.store.put(databaseKey(tag), lsn, VALUE_TOMBSTONE, EMPTY);
  }
}

function textOf(tag: DatabaseTag): string {
  return `${tag.spc}/${tag.db}`;
}
