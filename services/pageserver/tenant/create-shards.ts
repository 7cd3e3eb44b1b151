/** New tenants that are split from the beginning. */
import { StorageError } from '#shared/core/errors.js';
import type { TenantId } from '#shared/core/ids.js';
import { checkShards, DEFAULT_STRIPE_BLOCKS, shardOfId } from '#shared/core/shard.js';
import { shardIds } from './shard-split.js';
import type { TenantManager } from './tenant-manager.js';

/** The tenant or shard that the id names, or all shards of the tenant. False when all existed. */
export async function createShards(
  tenants: TenantManager,
  tenantId: TenantId,
  parameters: { count: number; stripeSize: number } | undefined,
): Promise<boolean> {
  const stripeBlocks = parameters === undefined || parameters.stripeSize === 0 ? undefined : parameters.stripeSize;
  const named = shardOfId(tenantId).count;
  const count = parameters?.count ?? 0;
  if (named > 0 && count > 0 && count !== named)
    throw new StorageError('invalid', `${tenantId} is not one of ${count} shards`);
  checkShards(count, stripeBlocks ?? DEFAULT_STRIPE_BLOCKS);
  const ids = named > 0 || count === 0 ? [tenantId] : shardIds(tenantId, count);
  let created = false;
  for (const id of ids) created = (await tenants.create(id, stripeBlocks)) || created;
  return created;
}
