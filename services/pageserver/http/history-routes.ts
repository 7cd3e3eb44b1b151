/** HTTP calls about the life of branches and about sizes. */
import type { FastifyInstance } from 'fastify';
import { parseTenantId, parseTtid } from '#shared/core/ids.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { tenantSizes } from '../tenant/tenant-sizes.js';
import type { TenantParams, TimelineParams } from './routes.js';

export function addHistoryRoutes(server: FastifyInstance, tenants: TenantManager): void {
  const base = '/v1/tenant/:tenantId/timeline/:timelineId';
  server.put<TimelineParams>(`${base}/detach_ancestor`, async ({ params }) => {
    // Not given up when the caller goes away: it would be begun again anyhow.
    const { detachedFrom, reparented } = await tenants.detachAncestor(parseTtid(params), new AbortController().signal);
    return {
      detached_from: detachedFrom.timelineId,
      detached_at_lsn: formatLsn(detachedFrom.lsn),
      reparented_timelines: reparented,
    };
  });
  server.get<TenantParams>('/v1/tenant/:tenantId/synthetic_size', async ({ params }) => {
    const tenantId = parseTenantId(params.tenantId);
    const sizes = await tenantSizes(tenants.listTimelines(tenantId));
    return {
      id: tenantId,
      size: sizes.syntheticSizeBytes,
      physical_size: sizes.physicalSizeBytes,
      timelines: sizes.timelines.map((timeline) => ({
        timeline_id: timeline.timelineId,
        current_logical_size: timeline.logicalSizeBytes,
        current_physical_size: timeline.physicalSizeBytes,
        pitr_history_size: timeline.historySizeBytes,
        synthetic_size: timeline.syntheticSizeBytes,
      })),
    };
  });
}
