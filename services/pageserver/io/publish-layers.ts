/**
 * The last steps of every compaction: upload the new layers, publish an index with them in place of the old, then show them to readers,
 * and only then delete the old. It can stop or fail at any point: until the index is up the old layers count, and what was half made is
 * swept at the next start or written again under the same name.
 */
import { StorageError, errorText } from '#shared/core/errors.js';
import type { IndexPart } from '../core/storage/index-part.js';
import type { CompactionTarget } from './compaction.js';
import { LayerFile } from './layer-file.js';
import type { OutputLayer } from './layer-output.js';
import type { StorageEnv } from './storage-env.js';

export interface LayerChange {
  /** Complete files in the timeline's directory. */
  readonly written: readonly OutputLayer[];
  readonly replaced: readonly LayerFile[];
}

export async function publishNewLayers(
  target: CompactionTarget,
  change: LayerChange,
  signal: AbortSignal,
): Promise<LayerFile[]> {
  const { env, dir, publisher } = target;
  const owner = target.owner();
  const added = change.written.map(
    ({ name, sizeBytes, crc }) =>
      new LayerFile({ name, dir, owner, metadata: { sizeBytes, crc }, resident: true, uploaded: false }),
  );
  for (const layer of added) {
    await env.objectStore.putFile(layer.objectKey, layer.path, signal);
    layer.uploaded = true;
  }
  if (signal.aborted) throw new StorageError('cancelled', 'the timeline is stopping');
  await publisher.publish((index) => withLayers(index, change.replaced, added), signal);
  target.replaceLayers(change.replaced, added);
  // A merge of one layer can have the name of its input: that stays.
  const kept = new Set(added.map((layer) => layer.name));
  await removeLayers(
    env,
    change.replaced.filter((layer) => !kept.has(layer.name)),
  );
  for (const layer of added) env.layers.noteLocal(layer);
  return added;
}

export function withLayers(
  index: IndexPart,
  removed: readonly LayerFile[],
  added: readonly LayerFile[] = [],
): IndexPart {
  const layers = new Map(index.layers);
  for (const layer of removed) layers.delete(layer.name);
  for (const layer of added) layers.set(layer.name, layer.metadata);
  return { ...index, layers };
}

/** Of layers that no index has any more. A failure here leaves garbage, not damage: the next generation sweeps it. */
export async function removeLayers(env: StorageEnv, layers: readonly LayerFile[]): Promise<void> {
  if (layers.length === 0) return;
  for (const layer of layers) await env.layers.retire(layer);
  try {
    const own = layers.filter((layer) => layer.metadata.heldBy === undefined);
    if (own.length > 0) await env.objectStore.delete(own.map((layer) => layer.objectKey));
  } catch (error) {
    env.log.warn(
      { error: errorText(error), layers: layers.length },
      'could not delete layers that are not used any more',
    );
  }
}
