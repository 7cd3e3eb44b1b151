/**
 * The object store as one attachment of a tenant sees it: the only way by which its objects are changed. What the attachment may do is
 * asked here, so that no caller can forget it:
 *   - a stale attachment changes nothing; one of several (multi) deletes nothing;
 *   - an index counts as written only once nobody has claimed the tenant since (tenant/generations.ts), and nothing is deleted before.
 * A failure of kind `fenced` is final for the attachment.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import type { ObjectInfo, ObjectStore } from '#shared/io/object-store.js';

/** single: the only one; multi: there is another (no deletes); stale: there is a newer one (reads only). */
export type AttachMode = 'single' | 'multi' | 'stale';

export interface Attachment {
  readonly tenantId: TenantId;
  readonly generation: number;
  /** Throws StorageError `fenced` when there is a newer attachment. */
  readonly validate: (signal?: AbortSignal) => Promise<void>;
  /** Called once, when the attachment is found to be superseded. */
  readonly onFenced: (error: StorageError) => void;
}

function isIndexKey(key: string): boolean {
  return key.includes('/index_part.json-');
}

export class TenantGate implements ObjectStore {
  readonly url: string;
  /** Deletes left to a later attachment. */
  skippedDeletes = 0;
  validationCount = 0;
  mode: AttachMode;
  private readonly inner: ObjectStore;
  private readonly attachment: Attachment;
  private fencedBy: StorageError | null = null;

  constructor(inner: ObjectStore, attachment: Attachment, mode: AttachMode) {
    this.inner = inner;
    this.url = inner.url;
    this.attachment = attachment;
    this.mode = mode;
  }

  get isFenced(): boolean {
    return this.fencedBy !== null;
  }

  private refuseWhenStale(): void {
    if (this.fencedBy !== null) throw this.fencedBy;
    if (this.mode !== 'stale') return;
    const { tenantId, generation } = this.attachment;
    throw new StorageError('fenced', `tenant ${tenantId} is attached as stale (generation ${generation})`);
  }

  private async validate(signal: AbortSignal | undefined): Promise<void> {
    this.validationCount++;
    try {
      await this.attachment.validate(signal);
    } catch (error) {
      if (!(error instanceof StorageError) || error.kind !== 'fenced') throw error;
      const isFirst = this.fencedBy === null;
      this.fencedBy ??= error;
      if (isFirst) this.attachment.onFenced(error);
      throw error;
    }
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.refuseWhenStale();
    await this.inner.put(key, bytes, signal);
    if (isIndexKey(key)) await this.validate(signal);
  }

  async create(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    this.refuseWhenStale();
    return this.inner.create(key, bytes, signal);
  }

  async putFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    this.refuseWhenStale();
    await this.inner.putFile(key, path, signal);
  }

  async delete(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    this.refuseWhenStale();
    if (this.mode === 'multi') {
      this.skippedDeletes += keys.length;
      return;
    }
    await this.validate(signal);
    await this.inner.delete(keys, signal);
  }

  get(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.inner.get(key, signal);
  }

  getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    return this.inner.getRange(key, start, end, signal);
  }

  getToFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    return this.inner.getToFile(key, path, signal);
  }

  head(key: string, signal?: AbortSignal): Promise<{ readonly sizeBytes: number } | null> {
    return this.inner.head(key, signal);
  }

  list(prefix: string, signal?: AbortSignal): Promise<string[]> {
    return this.inner.list(prefix, signal);
  }

  listObjects(prefix: string, signal?: AbortSignal): Promise<ObjectInfo[]> {
    return this.inner.listObjects(prefix, signal);
  }

  listPrefixes(prefix: string, signal?: AbortSignal): Promise<string[]> {
    return this.inner.listPrefixes(prefix, signal);
  }
}
