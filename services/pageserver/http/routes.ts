/** The HTTP management API, on the port of /metrics. Trailing slashes are ignored. */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { StorageError } from '#shared/core/errors.js';
import { idFromBytes } from '#shared/core/ids.js';
import { parseShardId, parseShardTtid } from '#shared/core/shard.js';
import { VERSION } from '#shared/runtime/version.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { addHistoryRoutes } from './history-routes.js';
import { addLocationRoutes } from './location-routes.js';
import { addMaintenanceRoutes } from './maintenance-routes.js';
import { createShards } from '../tenant/create-shards.js';
import { parseCreateTenant, parseCreateTimeline, parseSplitTenant, tenantJson, timelineJson } from './json.js';

export interface TenantParams {
  Params: { tenantId: string };
}
export interface TimelineParams {
  Params: { tenantId: string; timelineId: string };
}

export interface HttpDeps {
  readonly tenants: TenantManager;
  readonly nodeId: number;
}

export function addRoutes(server: FastifyInstance, deps: HttpDeps): void {
  acceptAnyJson(server);
  server.get('/v1/status', () => ({ id: deps.nodeId, version: VERSION }));
  addTenantRoutes(server, deps.tenants);
  addLocationRoutes(server, deps.tenants);
  addTimelineRoutes(server, deps.tenants);
  addMaintenanceRoutes(server, deps.tenants);
  addHistoryRoutes(server, deps.tenants);
}

/** `curl -d` sends JSON as a form, and some calls have an empty body. */
function acceptAnyJson(server: FastifyInstance): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    const text = body.toString().trim();
    try {
      done(null, text === '' ? {} : JSON.parse(text));
    } catch (cause) {
      done(new StorageError('invalid', 'the request body is not JSON', { cause }));
    }
  });
}

function freshId(): string {
  return idFromBytes(randomBytes(16));
}

function addTenantRoutes(server: FastifyInstance, tenants: TenantManager): void {
  server.get('/v1/tenant', () => tenants.list().map(tenantJson));
  server.post('/v1/tenant', async (request, reply) => {
    const { id, shards } = parseCreateTenant(request.body);
    const tenantId = parseShardId(id ?? freshId());
    await createShards(tenants, tenantId, shards);
    return reply.status(201).header('content-type', 'application/json').send(JSON.stringify(tenantId));
  });
  server.get<TenantParams>('/v1/tenant/:tenantId', ({ params }) => {
    const tenantId = parseShardId(params.tenantId);
    const timelines = tenants.listTimelines(tenantId).map((timeline) => timeline.ttid.timelineId);
    return { ...tenantJson(tenants.status(tenantId)), timelines };
  });
  server.delete<TenantParams>('/v1/tenant/:tenantId', async ({ params }, reply) => {
    const existed = await tenants.delete(parseShardId(params.tenantId));
    if (!existed) throw new StorageError('not-found', `tenant ${params.tenantId} does not exist here`);
    return reply.status(202).send(null);
  });
  server.put<TenantParams>('/v1/tenant/:tenantId/shard_split', async ({ params, body }) => {
    const shards = await tenants.split(parseShardId(params.tenantId), parseSplitTenant(body));
    return { new_shards: shards.map(({ tenantId }) => tenantId) };
  });
}

function addTimelineRoutes(server: FastifyInstance, tenants: TenantManager): void {
  const base = '/v1/tenant/:tenantId/timeline';
  server.get<TenantParams>(base, ({ params }) =>
    tenants.listTimelines(parseShardId(params.tenantId)).map((timeline) => timelineJson(timeline.status())),
  );
  server.post<TenantParams>(base, async ({ params, body }, reply) => {
    const { id, origin } = parseCreateTimeline(body);
    const ttid = parseShardTtid({ tenantId: params.tenantId, timelineId: id ?? freshId() });
    const { timeline } = await tenants.createTimeline(ttid, origin);
    return reply.status(201).send(timelineJson(timeline.status()));
  });
  server.get<TimelineParams>(`${base}/:timelineId`, ({ params }) =>
    timelineJson(tenants.find(parseShardTtid(params)).status()),
  );
  server.delete<TimelineParams>(`${base}/:timelineId`, async ({ params }, reply) => {
    const existed = await tenants.deleteTimeline(parseShardTtid(params));
    if (!existed) throw new StorageError('not-found', `timeline ${params.timelineId} does not exist here`);
    return reply.status(202).send(null);
  });
  server.put<TimelineParams>(`${base}/:timelineId/checkpoint`, async ({ params }) => {
    await tenants.find(parseShardTtid(params)).checkpoint();
    return null;
  });
}
