/**
 * The timeline's index in the object store: one writer at a time, changes in order. What `published` says is what a restart will find
 * (or something newer, when an upload failed after it took effect: therefore nothing an unpublished change mentions is ever deleted).
 */
import { wrapError } from '#shared/core/errors.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import { encodeIndexPart } from '../core/storage/index-part.js';
import type { IndexPart } from '../core/storage/index-part.js';
import { indexKey } from './object-keys.js';

export class IndexPublisher {
  published: IndexPart;
  private readonly objectStore: ObjectStore;
  private readonly key: string;
  private last: Promise<unknown> = Promise.resolve();

  /** `published` is what the object store has now, or what the first change starts from. */
  constructor(objectStore: ObjectStore, published: IndexPart, generation: number) {
    this.objectStore = objectStore;
    this.published = published;
    this.key = indexKey(published.ttid, generation);
  }

  /** Uploads change(published). When it fails the state stays as it was; later changes go on. */
  publish(change: (index: IndexPart) => IndexPart, signal?: AbortSignal): Promise<IndexPart> {
    const turn = this.last.then(async () => {
      const next = change(this.published);
      try {
        await this.objectStore.put(this.key, encodeIndexPart(next), signal);
      } catch (error) {
        throw wrapError(`could not upload index ${this.key}`, error);
      }
      this.published = next;
      return next;
    });
    this.last = turn.catch(() => undefined);
    return turn;
  }
}
