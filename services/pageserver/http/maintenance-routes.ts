/** HTTP calls that compact and collect, and that ask and say what history is kept. */
import type { FastifyInstance } from 'fastify';
import { StorageError } from '#shared/core/errors.js';
import { parseShardId, parseShardTtid } from '#shared/core/shard.js';
import { formatLsn } from '#shared/core/lsn.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import {
  parseCompactQuery,
  parseGcRequest,
  parseLsnField,
  parseTenantConfig,
  parseTimestampQuery,
  tenantConfigJson,
} from './maintenance-json.js';
import type { TenantParams, TimelineParams } from './routes.js';

export function addMaintenanceRoutes(server: FastifyInstance, tenants: TenantManager): void {
  addConfigRoutes(server, tenants);
  const base = '/v1/tenant/:tenantId/timeline/:timelineId';
  server.put<TimelineParams>(`${base}/do_gc`, async ({ params, body }) => {
    const result = await tenants.find(parseShardTtid(params)).collectGarbage(parseGcRequest(body));
    return {
      cutoff_lsn: formatLsn(result.cutoff),
      layers_removed: result.layersRemoved,
      bytes_removed: result.bytesRemoved,
    };
  });
  server.put<TimelineParams>(`${base}/compact`, async ({ params, query }) => {
    const { isBottom, ...options } = parseCompactQuery(query);
    const timeline = tenants.find(parseShardTtid(params));
    if (isBottom) await timeline.store.compactHistory({ force: true });
    else await timeline.compact(options);
    return null;
  });
  server.get<TimelineParams>(`${base}/get_lsn_by_timestamp`, ({ params, query }) => {
    const { kind, lsn } = tenants.find(parseShardTtid(params)).store.lsnOfTime(parseTimestampQuery(query));
    return { lsn: formatLsn(lsn), kind };
  });
  server.get<TimelineParams>(`${base}/get_timestamp_of_lsn`, ({ params, query }, reply) => {
    const lsn = parseLsnField(query);
    const timeMs = tenants.find(parseShardTtid(params)).store.timeOfLsn(lsn);
    if (timeMs === null) throw new StorageError('not-found', `no commit is known at or below ${formatLsn(lsn)}`);
    return reply.header('content-type', 'application/json').send(JSON.stringify(new Date(timeMs).toISOString()));
  });
  server.post<TimelineParams>(`${base}/lsn_lease`, ({ params, body }) => {
    const endMs = tenants.find(parseShardTtid(params)).store.leaseLsn(parseLsnField(body));
    return { valid_until: new Date(endMs).toISOString() };
  });
}

function addConfigRoutes(server: FastifyInstance, tenants: TenantManager): void {
  server.put('/v1/tenant/config', async ({ body }) => {
    const { tenantId, overrides } = parseTenantConfig(body);
    await tenants.setConfig(parseShardId(tenantId), overrides);
    return null;
  });
  server.get<TenantParams>('/v1/tenant/:tenantId/config', ({ params }) => {
    const { overrides, effective } = tenants.config(parseShardId(params.tenantId));
    return {
      tenant_specific_overrides: tenantConfigJson(overrides),
      effective_config: tenantConfigJson(effective),
    };
  });
}
