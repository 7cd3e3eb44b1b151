/** ManagementService: the node and its tenants. */
import type { ManagementServiceServer } from '#gen/neon/pageserver/v1/management.js';
import { parseShardId } from '#shared/core/shard.js';
import { unary } from '#shared/rpc/handlers.js';
import { VERSION } from '#shared/runtime/version.js';
import type { ManagementDeps } from './management-service.js';
import { tenantInfo } from './timeline-info.js';

type TenantMethods = Pick<
  ManagementServiceServer,
  'getStatus' | 'createTenant' | 'attachTenant' | 'listTenants' | 'deleteTenant'
>;

export function tenantMethods({ tenants, nodeId }: ManagementDeps): TenantMethods {
  return {
    getStatus: unary(async () => ({
      nodeId: BigInt(nodeId),
      version: VERSION,
      tenantCount: tenants.list().length,
      timelineCount: tenants.timelineCount,
    })),
    createTenant: unary(async ({ tenantId }) => ({ created: await tenants.create(parseShardId(tenantId)) })),
    attachTenant: unary(async ({ tenantId, generation }) => {
      const status = await tenants.attach(parseShardId(tenantId), generation);
      return { timelineCount: status.timelineCount, generation: status.generation };
    }),
    listTenants: unary(async () => ({ tenants: tenants.list().map(tenantInfo) })),
    deleteTenant: unary(async ({ tenantId }) => ({ existed: await tenants.delete(parseShardId(tenantId)) })),
  };
}
