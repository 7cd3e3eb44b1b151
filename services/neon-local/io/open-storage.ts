/** Opens the object store of a storage of this stack, with the keys that it was attached with. */
import { openObjectStore } from '#shared/io/object-store.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { StorageEntry } from '../core/catalog-schema.js';
import type { RepoDir } from './repo-dir.js';

export async function openStorage(repo: RepoDir, storage: StorageEntry): Promise<ObjectStore> {
  return openObjectStore(storage.url, { keys: await repo.keysOf(storage.name) });
}
