/** neon.safekeeper.v1.SafekeeperService: management of timelines. */
import { formatTtid, parseTenantId, parseTtid } from '#shared/core/ids.js';
import { unary } from '#shared/rpc/handlers.js';
import { VERSION } from '#shared/runtime/version.js';
import type {
  CreateTimelineRequest,
  CreateTimelineResponse,
  DeleteTimelineRequest,
  DeleteTimelineResponse,
  GetStatusRequest,
  GetStatusResponse,
  GetTimelineStatusRequest,
  GetTimelineStatusResponse,
  ListTimelinesRequest,
  ListTimelinesResponse,
  SafekeeperServiceServer,
} from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { Timelines } from '../io/timelines.js';
import { createRequestFromWire, statusToWire } from './conversion.js';

export function safekeeperService(deps: { nodeId: number; timelines: Timelines }): SafekeeperServiceServer {
  const { timelines } = deps;
  return {
    getStatus: unary(async (_request: GetStatusRequest): Promise<GetStatusResponse> => ({
      nodeId: BigInt(deps.nodeId),
      version: VERSION,
      timelineCount: timelines.count,
    })),
    createTimeline: unary(async (request: CreateTimelineRequest): Promise<CreateTimelineResponse> => {
      const timeline = await timelines.create(createRequestFromWire(request, Date.now()));
      return { status: statusToWire(timeline) };
    }),
    getTimelineStatus: unary(async (request: GetTimelineStatusRequest): Promise<GetTimelineStatusResponse> => {
      return { status: statusToWire(timelines.get(parseTtid(request.ttid))) };
    }),
    listTimelines: unary(async (request: ListTimelinesRequest): Promise<ListTimelinesResponse> => {
      const tenantId = request.tenantId === '' ? null : parseTenantId(request.tenantId);
      const chosen = timelines.all().filter((timeline) => tenantId === null || timeline.ttid.tenantId === tenantId);
      chosen.sort((a, b) => (formatTtid(a.ttid) < formatTtid(b.ttid) ? -1 : 1));
      return { timelines: chosen.map(statusToWire) };
    }),
    deleteTimeline: unary(async (request: DeleteTimelineRequest): Promise<DeleteTimelineResponse> => {
      return { existed: await timelines.delete(parseTtid(request.ttid)) };
    }),
  };
}
