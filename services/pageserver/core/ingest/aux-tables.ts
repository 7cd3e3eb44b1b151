/** Auxiliary files and replication origins of a timeline at the head of its WAL. Owns their keys (aux-files.ts has the values). */
import type { Lsn } from '#shared/core/lsn.js';
import {
  type AuxFile,
  auxPathHash,
  decodeAuxFiles,
  decodeOrigin,
  encodeAuxFiles,
  encodeOrigin,
  isOwn,
} from '../aux-files.js';
import { keyBlock } from '../key.js';
import { auxFileKey, originKey } from '../keyspace.js';
import { type ScanEntry, type TimelineStore, VALUE_IMAGE, VALUE_TOMBSTONE } from '../storage/store.js';

const TOMBSTONE = new Uint8Array(0);

export class AuxFileTable {
  /** Paths by their hash. */
  private readonly paths = new Map<number, readonly string[]>();
  private readonly store: TimelineStore;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  load(entries: readonly ScanEntry[]): void {
    for (const { key, value } of entries) {
      const { putLsn, files } = decodeAuxFiles(value);
      if (!isOwn(putLsn, this.store.ancestor)) continue;
      this.paths.set(
        keyBlock(key),
        files.map(({ path }) => path),
      );
    }
  }

  /**
   * Replaces a file; an empty one is deleted. `content` becomes the store's. A Promise only when another path has the same hash: its
   * content is read as of `before`, where all earlier versions are in.
   */
  put(path: string, content: Uint8Array, lsn: Lsn, before: Lsn): void | Promise<void> {
    const hash = auxPathHash(path);
    const known = this.paths.get(hash) ?? [];
    if (content.length === 0 && !known.includes(path)) return;
    const others = known.filter((other) => other !== path);
    const own = content.length === 0 ? [] : [{ path, content }];
    if (others.length === 0) return this.write(hash, own, lsn);
    return this.store.get(auxFileKey(hash), before).then((value) => {
      const files = value === null ? [] : decodeAuxFiles(value).files.filter((file) => others.includes(file.path));
      this.write(hash, [...files, ...own], lsn);
    });
  }

  private write(hash: number, files: readonly AuxFile[], lsn: Lsn): void {
    const key = auxFileKey(hash);
    if (files.length === 0) {
      this.paths.delete(hash);
      this.store.put(key, lsn, VALUE_TOMBSTONE, TOMBSTONE);
    } else {
      this.paths.set(
        hash,
        files.map(({ path }) => path),
      );
      this.store.put(key, lsn, VALUE_IMAGE, encodeAuxFiles(lsn, files));
    }
  }
}

const NO_ORIGIN = 0;
/** "Do not replicate": an origin without progress. */
const LOCAL_ORIGIN = 0xffff;

export class OriginTable {
  private readonly progress = new Map<number, Lsn>();
  private readonly store: TimelineStore;

  constructor(store: TimelineStore) {
    this.store = store;
  }

  load(entries: readonly ScanEntry[]): void {
    for (const { key, value } of entries) {
      const { putLsn, remoteLsn } = decodeOrigin(value);
      if (isOwn(putLsn, this.store.ancestor)) this.progress.set(keyBlock(key), remoteLsn);
    }
  }

  /** Progress only goes forward unless it is `forced`. */
  advance(id: number, remoteLsn: Lsn, lsn: Lsn, forced: boolean): void {
    if (id === NO_ORIGIN || id === LOCAL_ORIGIN) return;
    const known = this.progress.get(id);
    if (known !== undefined && (known === remoteLsn || (known > remoteLsn && !forced))) return;
    this.progress.set(id, remoteLsn);
    this.store.put(originKey(id), lsn, VALUE_IMAGE, encodeOrigin({ remoteLsn, putLsn: lsn }));
  }

  drop(id: number, lsn: Lsn): void {
    if (!this.progress.delete(id)) return;
    this.store.put(originKey(id), lsn, VALUE_TOMBSTONE, TOMBSTONE);
  }
}
