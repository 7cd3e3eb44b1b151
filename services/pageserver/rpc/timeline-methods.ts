/** ManagementService: timelines. */
import type { ManagementServiceServer } from '#gen/neon/pageserver/v1/management.js';
import { parseShardId, parseShardTtid } from '#shared/core/shard.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import type { ManagementDeps } from './management-service.js';
import { originFromWire, timelineInfo } from './timeline-info.js';

type TimelineMethods = Pick<
  ManagementServiceServer,
  'createTimeline' | 'getTimeline' | 'listTimelines' | 'deleteTimeline' | 'checkpoint'
>;

export function timelineMethods({ tenants }: ManagementDeps): TimelineMethods {
  return {
    createTimeline: unary(async (request, { signal }) => {
      const ttid = parseShardTtid(request.ttid);
      const { timeline, created } = await tenants.createTimeline(ttid, originFromWire(request.mode), signal);
      return { timeline: timelineInfo(timeline.status()), created };
    }),
    getTimeline: unary(async (request) => ({
      timeline: timelineInfo(tenants.find(parseShardTtid(request.ttid)).status()),
    })),
    listTimelines: unary(async ({ tenantId }) => ({
      timelines: tenants.listTimelines(parseShardId(tenantId)).map((timeline) => timelineInfo(timeline.status())),
    })),
    deleteTimeline: unary(async (request) => ({ existed: await tenants.deleteTimeline(parseShardTtid(request.ttid)) })),
    checkpoint: unary(async (request) => ({
      remoteConsistentLsn: lsnToWire(await tenants.find(parseShardTtid(request.ttid)).checkpoint()),
    })),
  };
}
