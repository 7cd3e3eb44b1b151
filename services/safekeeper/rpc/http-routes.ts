/** The JSON management API, in the shapes that existing tools of Neon's safekeeper use, as far as they make sense here. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId, parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsnToWire, parseLsn } from '#shared/core/lsn.js';
import type { Membership } from '../core/acceptor-types.js';
import { digestOf } from '../io/digest.js';
import { pullTimeline } from '../io/pull.js';
import type { WalObjects } from '../io/wal-objects.js';
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

const membersSchema = z.array(z.object({ id: z.number().int().positive(), addr: z.string().min(1) })).max(100);
const mconfSchema = z.object({
  generation: z.number().int().positive(),
  members: membersSchema,
  new_members: membersSchema.nullish(),
});
const membershipSchema = z.object({ mconf: mconfSchema });
const pullSchema = z.object({
  tenant_id: z.string(),
  timeline_id: z.string(),
  /** host:port of gRPC servers; none = from the object store. */
  grpc_hosts: z.array(z.string().min(1)).max(100).default([]),
  mconf: mconfSchema.optional(),
});

export interface HttpDeps {
  readonly nodeId: number;
  readonly timelines: Timelines;
  readonly objects: WalObjects | null;
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
      const body = parsed(createSchema, request.body);
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
    server.delete<{ Params: TimelineParams; Querystring: { only_local?: string } }>(
      '/v1/tenant/:tenant/timeline/:timeline',
      async ({ params, query }) => {
        const ttid = { tenantId: parseTenantId(params.tenant), timelineId: parseTimelineId(params.timeline) };
        return { dir_existed: await timelines.delete(ttid, query.only_local === 'true') };
      },
    );
    server.put<{ Params: TimelineParams }>('/v1/tenant/:tenant/timeline/:timeline/membership', async (request) => {
      const membership = membershipFromJson(parsed(membershipSchema, request.body).mconf);
      const timeline = find(request.params);
      await timeline.run({ kind: 'membership', membership });
      return statusJson(timeline);
    });
    server.post('/v1/pull_timeline', async (request) => {
      const body = parsed(pullSchema, request.body);
      const { timeline, source } = await pullTimeline(deps, {
        ttid: parseTtid({ tenantId: body.tenant_id, timelineId: body.timeline_id }),
        sourceAddrs: body.grpc_hosts,
        membership: body.mconf === undefined ? null : membershipFromJson(body.mconf),
      });
      return { safekeeper_host: source, status: statusJson(timeline) };
    });
    server.get<{ Params: TimelineParams; Querystring: { from_lsn?: string; until_lsn?: string } }>(
      '/v1/tenant/:tenant/timeline/:timeline/digest',
      async ({ params, query }) => {
        const from = parseLsn(query.from_lsn ?? '');
        return { sha256: await digestOf(find(params), from, parseLsn(query.until_lsn ?? '')) };
      },
    );
  };
}

function parsed<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (!result.success) throw new StorageError('invalid', z.prettifyError(result.error));
  return result.data;
}

function membershipFromJson(mconf: z.infer<typeof mconfSchema>): Membership {
  const members = (list: readonly { id: number; addr: string }[]) =>
    list.map(({ id, addr }) => ({ nodeId: id, grpcAddr: addr }));
  const { generation } = mconf;
  return { generation, members: members(mconf.members), newMembers: members(mconf.new_members ?? []) };
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
    evicted: timeline.isEvicted,
    problem: timeline.problem?.message ?? null,
    partial_backup: control.partials.map((one) => ({
      status: one.status,
      term: one.term,
      flush_lsn: formatLsn(one.flushLsn),
      commit_lsn: formatLsn(one.commitLsn),
    })),
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
