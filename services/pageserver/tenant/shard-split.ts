/**
 * Splitting a tenant into shards. The shards begin with the layers of the tenant: their indexes name the objects where they lie
 * (`held_by`), nothing is copied. What a shard does not keep is left out when layers are merged and images made, so the old objects fall
 * out of use with time; they are removed only with the whole tenant.
 *
 * Steps, each of which may be repeated: the tenant is flushed and stopped; indexes, settings and manifests of the shards are written, with
 * no page server named in them; the tenant's manifest is marked as split. From the mark on the shards count, before it the tenant does.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import { checkShards, shardId, shardOfId } from '#shared/core/shard.js';
import type { ObjectStore } from '#shared/io/object-store.js';
import type { IndexPart } from '../core/storage/index-part.js';
import { encodeIndexPart } from '../core/storage/index-part.js';
import { indexKey } from '../io/object-keys.js';
import type { StorageEnv } from '../io/storage-env.js';
import { listTimelines } from '../io/tenant-storage.js';
import type { Manifest } from './manifest.js';
import { readManifest, writeManifest } from './manifest.js';
import { readTenantConfig, writeTenantConfig } from './tenant-config.js';

export interface SplitPlan {
  readonly count: number;
  readonly stripeBlocks: number;
}

export function shardIds(tenantId: TenantId, count: number): TenantId[] {
  return Array.from({ length: count }, (_, number) => shardId(tenantId, number, count));
}

/** `stop` flushes and stops the tenant, and returns its manifest. Throws StorageError `precondition` when it cannot be split so. */
export async function prepareSplit(
  { objectStore }: StorageEnv,
  tenantId: TenantId,
  plan: SplitPlan,
  stop: () => Promise<Manifest>,
): Promise<void> {
  checkShards(plan.count, plan.stripeBlocks);
  if (plan.count < 2) throw new StorageError('invalid', 'a split makes two shards or more');
  if (shardOfId(tenantId).count > 0) throw new StorageError('unimplemented', 'a shard cannot be split further');
  const before = await readManifest(objectStore, tenantId);
  if (before?.splitInto === plan.count) return;
  if (before?.splitInto !== undefined) {
    throw new StorageError('precondition', `tenant ${tenantId} was split into ${before.splitInto} shards`);
  }
  const manifest = await stop();
  const overrides = await readTenantConfig(objectStore, tenantId);
  const timelines = await listTimelines(objectStore, tenantId, manifest.generation);
  // Above the tenant's, so that no layer of a shard has the name of one that it took over.
  const generation = manifest.generation + 1;
  for (const id of shardIds(tenantId, plan.count)) {
    for (const { index } of timelines) {
      if (index.deletedAtMs !== null) continue;
      const taken = takenOver(index, id);
      await objectStore.put(indexKey(taken.ttid, generation), encodeIndexPart(taken));
    }
    await writeTenantConfig(objectStore, id, overrides);
    const { stripeBlocks } = plan;
    await writeManifest(objectStore, { ...manifest, tenantId: id, generation, stripeBlocks, nodeId: 0 });
  }
  await writeManifest(objectStore, { ...manifest, nodeId: 0, splitInto: plan.count });
}

/** The index of a shard that begins with what the tenant has. */
function takenOver(index: IndexPart, id: TenantId): IndexPart {
  const { tenantId, timelineId } = index.ttid;
  const layers = [...index.layers].map(([name, layer]) => [name, { heldBy: tenantId, ...layer }] as const);
  return { ...index, ttid: { tenantId: id, timelineId }, layers: new Map(layers) };
}

/** The objects of a tenant that was split are its shards'. */
export async function refuseWhileShardsExist(objectStore: ObjectStore, manifest: Manifest): Promise<void> {
  for (const id of shardIds(manifest.tenantId, manifest.splitInto ?? 0)) {
    const shard = await readManifest(objectStore, id);
    if (shard !== null) throw new StorageError('precondition', `delete shard ${id} before ${manifest.tenantId}`);
  }
}
