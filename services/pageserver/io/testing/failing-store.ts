/** An object store that fails on command: the n-th call from now, before or after it took effect. */
import { StorageError } from '#shared/core/errors.js';
import type { ObjectInfo, ObjectStore } from '#shared/io/object-store.js';

export class FailingStore implements ObjectStore {
  readonly url: string;
  /** Changing calls (puts, deletes) seen so far. */
  callCount = 0;
  /** All changing calls from this one on fail: the network is gone. */
  failFrom = Infinity;
  /** The call numbered failFrom takes effect though it fails: the answer is lost. */
  failAfterEffect = false;
  /** Something else that happens before or after the effect of one changing call. */
  interrupt: { readonly call: number; readonly afterEffect: boolean; readonly act: () => Promise<void> } | null = null;
  private readonly inner: ObjectStore;

  constructor(inner: ObjectStore) {
    this.inner = inner;
    this.url = inner.url;
  }

  private async change<T>(act: () => Promise<T>): Promise<T> {
    const call = this.callCount++;
    const { interrupt } = this;
    const isInterrupted = interrupt?.call === call;
    if (isInterrupted && !interrupt.afterEffect) await interrupt.act();
    if (call < this.failFrom) {
      const result = await act();
      if (isInterrupted && interrupt.afterEffect) await interrupt.act();
      return result;
    }
    if (this.failAfterEffect && call === this.failFrom) await act();
    throw new StorageError('unavailable', `injected failure of call ${call}`);
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.change(() => this.inner.put(key, bytes));
  }

  create(key: string, bytes: Uint8Array): Promise<boolean> {
    return this.change(() => this.inner.create(key, bytes));
  }

  putFile(key: string, path: string): Promise<void> {
    return this.change(() => this.inner.putFile(key, path));
  }

  delete(keys: readonly string[]): Promise<void> {
    return this.change(() => this.inner.delete(keys));
  }

  get(key: string): Promise<Uint8Array> {
    return this.inner.get(key);
  }

  getRange(key: string, start: number, end: number): Promise<Uint8Array> {
    return this.inner.getRange(key, start, end);
  }

  getToFile(key: string, path: string): Promise<void> {
    return this.inner.getToFile(key, path);
  }

  head(key: string): Promise<{ readonly sizeBytes: number } | null> {
    return this.inner.head(key);
  }

  list(prefix: string): Promise<string[]> {
    return this.inner.list(prefix);
  }

  listObjects(prefix: string): Promise<ObjectInfo[]> {
    return this.inner.listObjects(prefix);
  }

  listPrefixes(prefix: string): Promise<string[]> {
    return this.inner.listPrefixes(prefix);
  }
}
