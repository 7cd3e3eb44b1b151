/** The JSON management API, in the shapes that existing tools of Neon's safekeeper use, as far as they make sense here. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId, parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsnToWire, parseLsn } from '#shared/core/lsn.js';
import type { Timeline } from '../io/timeline.js';
import type { Timelines } from '../io/timelines.js';
import { createRequestFromWire } from './conversion.js';

const createSchema = z.object({
  tenant_id: z.string(),
  timeline_id: z.string(),
  pg_version: z.number().int().nonnegative().default(0),
  system_id: z.union([z.number().int().nonnegative(), z.string().regex(/^\d{1,20}$/)]).default(0),
  wal_seg_size: z.number().int().nonnegative().default(0),
  start_lsn: z.string(),
});

export interface HttpDeps {
  readonly nodeId: number;
  readonly timelines: Timelines;
}

type TimelineParams = { tenant: string; timeline: string };

export function httpRoutes(deps: HttpDeps): (server: FastifyInstance) => void {
  const { timelines } = deps;
  const find = ({ tenant, timeline }: TimelineParams): Timeline =>
    timelines.get({ tenantId: parseTenantId(tenant), timelineId: parseTimelineId(timeline) });
  return (server) => {
    server.get('/v1/status', () => ({ id: deps.nodeId }));
    server.get('/v1/tenant/timeline', () =>
      timelines.all().map(({ ttid }) => ({ tenant_id: ttid.tenantId, timeline_id: ttid.timelineId })),
    );
    server.post('/v1/tenant/timeline', async (request) => {
      const parsed = createSchema.safeParse(request.body);
      if (!parsed.success) throw new StorageError('invalid', z.prettifyError(parsed.error));
      const body = parsed.data;
      const control = createRequestFromWire(
        {
          ttid: parseTtid({ tenantId: body.tenant_id, timelineId: body.timeline_id }),
          startLsn: lsnToWire(parseLsn(body.start_lsn)),
          pgVersion: body.pg_version,
          systemId: BigInt.asUintN(64, BigInt(body.system_id)),
          walSegSize: body.wal_seg_size,
          mconf: undefined,
        },
        Date.now(),
      );
      return statusJson(await timelines.create(control));
    });
    server.get<{ Params: TimelineParams }>('/v1/tenant/:tenant/timeline/:timeline', (request) =>
      statusJson(find(request.params)),
    );
    server.delete<{ Params: TimelineParams }>('/v1/tenant/:tenant/timeline/:timeline', async ({ params }) => {
      const ttid = { tenantId: parseTenantId(params.tenant), timelineId: parseTimelineId(params.timeline) };
      return { dir_existed: await timelines.delete(ttid) };
    });
  };
}

function statusJson(timeline: Timeline): object {
  const { view, feedback, ttid } = timeline;
  const { control } = view;
  const { merged } = feedback;
  return {
    tenant_id: ttid.tenantId,
    timeline_id: ttid.timelineId,
    mconf: {
      generation: control.membership.generation,
      members: control.membership.members.map((m) => ({ id: m.nodeId, addr: m.grpcAddr })),
      new_members: control.membership.newMembers.map((m) => ({ id: m.nodeId, addr: m.grpcAddr })),
    },
    acceptor_state: {
      term: control.term,
      epoch: view.lastLogTerm,
      term_history: control.history.map((entry) => ({ term: entry.term, lsn: formatLsn(entry.lsn) })),
    },
    pg_info: {
      pg_version: control.pgVersion,
      // As text: it does not fit a JSON number.
      system_id: control.systemId.toString(),
      wal_seg_size: control.segSize,
    },
    flush_lsn: formatLsn(view.flushLsn),
    timeline_start_lsn: formatLsn(control.timelineStartLsn),
    local_start_lsn: formatLsn(control.localStartLsn),
    commit_lsn: formatLsn(view.commitLsn),
    backup_lsn: formatLsn(control.backupLsn),
    peer_horizon_lsn: formatLsn(control.peerHorizonLsn),
    remote_consistent_lsn: formatLsn(control.remoteConsistentLsn),
    walsenders: timeline.readerCount,
    walreceivers: timeline.proposerCount,
    pageserver_feedback:
      merged === null
        ? null
        : {
            current_timeline_size: merged.timelineSizeBytes,
            last_received_lsn: formatLsn(merged.lastReceivedLsn),
            disk_consistent_lsn: formatLsn(merged.diskConsistentLsn),
            remote_consistent_lsn: formatLsn(merged.remoteConsistentLsn),
          },
  };
}
