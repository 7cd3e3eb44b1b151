/** Opens the object store of a storage of this stack. */
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { RepoDir } from './repo-dir.js';
import type { StorageEntry } from '../core/catalog-schema.js';

export function openStorage(_repo: RepoDir, storage: StorageEntry): Promise<ObjectStore> {
  return openObjectStore(storage.url);
}
