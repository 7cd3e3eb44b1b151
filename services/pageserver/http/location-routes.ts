/** HTTP calls that say what this page server is to a tenant. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { parseShardId } from '#shared/core/shard.js';
import type { Location, LocationMode } from '../tenant/location.js';
import { parseLocationMode } from '../tenant/location.js';
import type { SecondaryProgress } from '../tenant/secondary.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { parse } from './json.js';
import type { TenantParams } from './routes.js';

const locationConfig = z.object({ mode: z.string(), generation: z.number().int().min(0).nullish() });

export function parseLocationConfig(body: unknown): Location {
  const { mode, generation } = parse(locationConfig, body);
  return { mode: parseLocationMode(mode), generation: generation ?? 0 };
}

/** "AttachedSingle" and the like, as scripts know them. */
function modeName(mode: LocationMode): string {
  return mode.replace(/(^|-)([a-z])/g, (_, _dash: string, letter: string) => letter.toUpperCase());
}

function locationJson({ mode, generation }: Location): Record<string, unknown> {
  return {
    mode: modeName(mode),
    generation: generation === 0 ? null : generation,
    secondary_conf: null,
    tenant_conf: {},
  };
}

function progressJson(progress: SecondaryProgress): Record<string, unknown> {
  return {
    layers_downloaded: progress.layersDownloaded,
    layers_total: progress.layersTotal,
    bytes_downloaded: progress.bytesDownloaded,
    bytes_total: progress.bytesTotal,
  };
}

export function addLocationRoutes(server: FastifyInstance, tenants: TenantManager): void {
  server.get('/v1/location_config', () => ({
    tenant_shards: tenants.locations().map(({ tenantId, location }) => [tenantId, locationJson(location)]),
  }));
  server.get<TenantParams>('/v1/tenant/:tenantId/location_config', ({ params }) =>
    locationJson(tenants.location(parseShardId(params.tenantId))),
  );
  server.put<TenantParams>('/v1/tenant/:tenantId/location_config', async ({ params, body }) => {
    const tenantId = parseShardId(params.tenantId);
    await tenants.attachOrCreate(tenantId, parseLocationConfig(body));
    const location = tenants.location(tenantId);
    const isHere = location.mode !== 'detached';
    return {
      shards: isHere ? [{ shard_id: tenantId, node_id: null }] : [],
      stripe_size: null,
      ...locationJson(location),
    };
  });
  server.post<TenantParams>('/v1/tenant/:tenantId/attach', async ({ params, body }, reply) => {
    const { generation } = parse(z.object({ generation: z.number().int().min(0).nullish() }), body);
    await tenants.attach(parseShardId(params.tenantId), generation ?? 0);
    return reply.status(202).send(null);
  });
  server.post<TenantParams>('/v1/tenant/:tenantId/detach', async ({ params }) => {
    await tenants.detach(parseShardId(params.tenantId));
    return null;
  });
  server.post<TenantParams>('/v1/tenant/:tenantId/secondary/download', async ({ params }) =>
    progressJson(await tenants.downloadSecondary(parseShardId(params.tenantId))),
  );
  server.get<TenantParams>('/v1/tenant/:tenantId/secondary/status', ({ params }) =>
    progressJson(tenants.secondaryProgress(parseShardId(params.tenantId))),
  );
}
