/**
 * The slow, obvious twin of the real store: all versions of a timeline in one map. For tests of everything that works over a
 * TimelineStore. It is stricter than the interface: two versions of one key at one LSN, falling LSNs, a record version without a
 * base and metadata that is not an image are errors here.
 */
import { StorageError } from '#shared/core/errors.js';
import type { ShardIdentity } from '#shared/core/shard.js';
import { UNSHARDED } from '#shared/core/shard.js';
import type { TenantId, TenantTimelineId, TimelineId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import { compareKeys, formatKey, type Key } from '../key.js';
import { isPageKey } from '../keyspace.js';
import { shardFilter } from '../shard-keys.js';
import { reconstructPage } from '../redo/redo.js';
import {
  type AncestorPoint,
  type ScanEntry,
  type PageOutcome,
  type TimelineStore,
  VALUE_IMAGE,
  VALUE_INIT,
  VALUE_RECORD,
  VALUE_TOMBSTONE,
  type ValueKind,
} from '../storage/store.js';

const PAGE_BYTES = 8192;

export interface Version {
  readonly lsn: Lsn;
  readonly kind: ValueKind;
  readonly value: Uint8Array;
}

interface Waiter {
  readonly lsn: Lsn;
  readonly resolve: () => void;
}

export interface MemoryStoreOptions {
  readonly shard?: ShardIdentity;
  readonly systemId?: bigint;
  readonly segSize?: number;
  readonly pgMajor?: number;
  readonly initdbLsn?: Lsn;
  readonly ancestor?: { readonly store: MemoryStore; readonly lsn: Lsn };
}

export class MemoryStore implements TimelineStore {
  readonly ttid: TenantTimelineId;
  readonly pgMajor: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly initdbLsn: Lsn;
  readonly ancestor: AncestorPoint | null;
  lastRecordLsn: Lsn;
  prevRecordLsn: Lsn = INVALID_LSN;
  diskConsistentLsn: Lsn = INVALID_LSN;
  remoteConsistentLsn: Lsn = INVALID_LSN;

  /** Oldest first. */
  readonly versions = new Map<Key, Version[]>();
  putCount = 0;
  putBytes = 0;
  readonly shard: ShardIdentity;
  private highestPut: Lsn = INVALID_LSN;
  private waiters: Waiter[] = [];
  private readonly parent: MemoryStore | null;
  private readonly keeps: ((key: Key) => boolean) | null;

  constructor(options: MemoryStoreOptions = {}) {
    const parent = options.ancestor?.store ?? null;
    this.parent = parent;
    this.shard = options.shard ?? parent?.shard ?? UNSHARDED;
    this.keeps = shardFilter(this.shard);
    this.ttid = {
      tenantId: '11'.repeat(16) as TenantId,
      timelineId: (parent === null ? '22' : '33').repeat(16) as TimelineId,
    };
    this.pgMajor = options.pgMajor ?? parent?.pgMajor ?? 15;
    this.systemId = options.systemId ?? parent?.systemId ?? 7_000_000_000_000_000_001n;
    this.segSize = options.segSize ?? parent?.segSize ?? 16 * 1024 * 1024;
    this.initdbLsn = options.initdbLsn ?? parent?.initdbLsn ?? INVALID_LSN;
    this.ancestor =
      options.ancestor === undefined
        ? null
        : { timelineId: options.ancestor.store.ttid.timelineId, lsn: options.ancestor.lsn };
    this.lastRecordLsn = options.ancestor?.lsn ?? this.initdbLsn;
  }

  put(key: Key, lsn: Lsn, kind: ValueKind, value: Uint8Array): void {
    if (this.keeps !== null && !this.keeps(key)) return;
    if (lsn < this.highestPut) throw this.broken(key, lsn, `put after ${formatLsn(this.highestPut)}`);
    if (this.ancestor !== null && lsn <= this.ancestor.lsn) throw this.broken(key, lsn, 'put below the branch point');
    const page = isPageKey(key);
    if (kind === VALUE_TOMBSTONE && value.length !== 0) throw this.broken(key, lsn, 'tombstone with a value');
    if (!page && (kind === VALUE_RECORD || kind === VALUE_INIT)) throw this.broken(key, lsn, 'record under metadata');
    if (page && kind === VALUE_IMAGE && value.length !== 0 && value.length !== PAGE_BYTES) {
      throw this.broken(key, lsn, `page image of ${value.length} bytes`);
    }
    const versions = this.versions.get(key) ?? [];
    if (versions.at(-1)?.lsn === lsn) throw this.broken(key, lsn, 'put twice');
    if (kind === VALUE_RECORD && this.newest(key, lsn) === null) throw this.broken(key, lsn, 'record without a base');
    versions.push({ lsn, kind, value: value.slice() });
    this.versions.set(key, versions);
    this.highestPut = lsn;
    this.putCount++;
    this.putBytes += value.length;
  }

  advance(lastRecordLsn: Lsn, prevRecordLsn: Lsn): void {
    if (lastRecordLsn < this.highestPut || lastRecordLsn < this.lastRecordLsn) {
      throw new StorageError('internal', `advanced to ${formatLsn(lastRecordLsn)}, behind what was put`);
    }
    this.lastRecordLsn = lastRecordLsn;
    this.prevRecordLsn = prevRecordLsn;
    const ready = this.waiters.filter((waiter) => waiter.lsn <= lastRecordLsn);
    this.waiters = this.waiters.filter((waiter) => waiter.lsn > lastRecordLsn);
    for (const waiter of ready) waiter.resolve();
  }

  async waitLsn(lsn: Lsn): Promise<void> {
    if (lsn <= this.lastRecordLsn) return;
    await new Promise<void>((resolve) => this.waiters.push({ lsn, resolve }));
  }

  async waitForRoom(): Promise<void> {
    // There is always room.
  }

  async get(key: Key, at: Lsn): Promise<Uint8Array | null> {
    const version = this.newest(key, at);
    if (version === null || version.kind === VALUE_TOMBSTONE) return null;
    if (version.kind !== VALUE_IMAGE) throw this.broken(key, version.lsn, 'not an image');
    return version.value;
  }

  async scan(start: Key, end: Key, at: Lsn): Promise<ScanEntry[]> {
    const entries: ScanEntry[] = [];
    const keys = this.unsortedKeys().filter((key) => compareKeys(key, start) >= 0 && compareKeys(key, end) < 0);
    for (const key of keys.sort(compareKeys)) {
      const value = await this.get(key, at);
      if (value !== null) entries.push({ key, value });
    }
    return entries;
  }

  async getPages(keys: readonly Key[], at: Lsn): Promise<PageOutcome[]> {
    return Promise.all(
      keys.map((key) =>
        this.getPage(key, at).catch((error: unknown) => {
          if (error instanceof StorageError) return error;
          throw error;
        }),
      ),
    );
  }

  async getPage(key: Key, at: Lsn): Promise<Uint8Array | null> {
    const records: Array<{ endLsn: Lsn; value: Uint8Array }> = [];
    for (const version of this.newestFirst(key, at)) {
      if (version.kind === VALUE_TOMBSTONE) return null;
      if (version.kind === VALUE_IMAGE) {
        const base = version.value.length === 0 ? new Uint8Array(PAGE_BYTES) : version.value;
        return reconstructPage(base, records.reverse());
      }
      records.push({ endLsn: version.lsn, value: version.value });
      if (version.kind === VALUE_INIT) return reconstructPage(null, records.reverse());
    }
    if (records.length > 0) throw this.broken(key, at, 'records without a base');
    return null;
  }

  async checkpoint(): Promise<Lsn> {
    this.diskConsistentLsn = this.lastRecordLsn;
    this.remoteConsistentLsn = this.lastRecordLsn;
    return this.lastRecordLsn;
  }

  /** All keys with a version here or in the ancestor, in order. */
  keys(): Key[] {
    return this.unsortedKeys().sort(compareKeys);
  }

  private unsortedKeys(): Key[] {
    const own = [...this.versions.keys()];
    return this.parent === null ? own : [...new Set([...own, ...this.parent.unsortedKeys()])];
  }

  private *newestFirst(key: Key, at: Lsn): Generator<Version> {
    const versions = this.versions.get(key) ?? [];
    for (let i = versions.length - 1; i >= 0; i--) {
      const version = versions[i]!;
      if (version.lsn <= at) yield version;
    }
    if (this.parent !== null && this.ancestor !== null) {
      yield* this.parent.newestFirst(key, Math.min(at, this.ancestor.lsn) as Lsn);
    }
  }

  private newest(key: Key, at: Lsn): Version | null {
    for (const version of this.newestFirst(key, at)) return version;
    return null;
  }

  private broken(key: Key, lsn: Lsn, what: string): StorageError {
    return new StorageError('internal', `key ${formatKey(key)} at ${formatLsn(lsn)}: ${what}`);
  }
}
