/** neon.pageserver.v1.ShardService. */
import type { ShardServiceServer } from '#gen/neon/pageserver/v1/shard.js';
import { DEFAULT_STRIPE_BLOCKS, parseShardId } from '#shared/core/shard.js';
import { unary } from '#shared/rpc/handlers.js';
import { createShards } from '../tenant/create-shards.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { tenantInfo } from './timeline-info.js';

export function shardService({ tenants }: { readonly tenants: TenantManager }): ShardServiceServer {
  return {
    createShards: unary(async ({ tenantId, shardParameters }) => ({
      created: await createShards(tenants, parseShardId(tenantId), shardParameters),
    })),
    splitTenant: unary(async ({ tenantId, shardCount, stripeSize }) => {
      const stripeBlocks = stripeSize === 0 ? DEFAULT_STRIPE_BLOCKS : stripeSize;
      const shards = await tenants.split(parseShardId(tenantId), { count: shardCount, stripeBlocks });
      return { shards: shards.map(tenantInfo) };
    }),
    releaseTenant: unary(async ({ tenantId }) => {
      await tenants.detach(parseShardId(tenantId));
      return {};
    }),
  };
}
