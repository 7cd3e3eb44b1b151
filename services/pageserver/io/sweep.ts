/**
 * Removes what earlier generations of this server left behind in the object store: layers that were uploaded but never came into an
 * index, or left it without being deleted, and old indexes. Only once an index of the own generation is up: from then on nobody may use
 * what older indexes say. Objects of the own or a later generation are never touched.
 */
import type { IndexPart } from '../core/storage/index-part.js';
import { parseLayerFileName } from '../core/storage/layer-name.js';
import { generationOfIndexKey, indexKeyPrefix, timelinePrefix } from './object-keys.js';
import type { ObjectStore } from '#shared/io/object-store.js';

/** Keys of objects that may go. `index` is published under `generation`. */
export function leftBehind(keys: readonly string[], index: IndexPart, generation: number): string[] {
  const prefix = timelinePrefix(index.ttid);
  return keys.filter((key) => {
    if (key.startsWith(indexKeyPrefix(index.ttid))) return generationOfIndexKey(key) < generation;
    const name = key.slice(prefix.length);
    return isLayerName(name) && parseLayerFileName(name).generation < generation && !index.layers.has(name);
  });
}

function isLayerName(name: string): boolean {
  try {
    parseLayerFileName(name);
    return true;
  } catch {
    return false;
  }
}

/** Returns how many objects were removed. */
export async function sweep(objectStore: ObjectStore, index: IndexPart, generation: number): Promise<number> {
  const gone = leftBehind(await objectStore.list(timelinePrefix(index.ttid)), index, generation);
  if (gone.length > 0) await objectStore.delete(gone);
  return gone.length;
}
