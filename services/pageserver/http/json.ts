/** JSON shapes of the HTTP API: names as deployment scripts and dashboards of this kind of system know them; LSNs as "X/X". */
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, parseLsn } from '#shared/core/lsn.js';
import { DEFAULT_STRIPE_BLOCKS, SHARD_COUNT_MAX } from '#shared/core/shard.js';
import type { TenantStatus, TimelineOrigin, TimelineStatus } from '../tenant/timeline-status.js';

const STATES = { active: 'Active', stopping: 'Stopping', broken: 'Broken' } as const;

export function timelineJson(status: TimelineStatus): Record<string, unknown> {
  return {
    tenant_id: status.ttid.tenantId,
    timeline_id: status.ttid.timelineId,
    ancestor_timeline_id: status.ancestor?.timelineId ?? null,
    ancestor_lsn: status.ancestor === null ? null : formatLsn(status.ancestor.lsn),
    last_record_lsn: formatLsn(status.lastRecordLsn),
    prev_record_lsn: status.prevRecordLsn === 0 ? null : formatLsn(status.prevRecordLsn),
    disk_consistent_lsn: formatLsn(status.diskConsistentLsn),
    remote_consistent_lsn: formatLsn(status.remoteConsistentLsn),
    remote_consistent_lsn_visible: formatLsn(status.remoteConsistentLsn),
    initdb_lsn: formatLsn(status.initdbLsn),
    min_readable_lsn: formatLsn(status.minReadableLsn),
    applied_gc_cutoff_lsn: formatLsn(status.minReadableLsn),
    current_logical_size: status.logicalSizeBytes,
    current_logical_size_is_accurate: true,
    current_physical_size: status.physicalSizeBytes,
    layer_count: status.layerCount,
    // PG_VERSION_NUM / 10000, as these scripts write it.
    pg_version: status.pgMajor,
    system_id: status.systemId.toString(),
    wal_seg_size: status.segSize,
    wal_source_connstr: status.walSourceAddr === '' ? null : status.walSourceAddr,
    last_received_msg_ts: status.lastMessageAtMs === 0 ? null : status.lastMessageAtMs * 1000,
    state: status.state === 'broken' ? { Broken: { reason: status.brokenReason } } : STATES[status.state],
    walreceiver_status: status.walSourceAddr === '' ? 'Not connected' : `Receiving from ${status.walSourceAddr}`,
    is_archived: false,
  };
}

export function tenantJson(status: TenantStatus): Record<string, unknown> {
  return {
    id: status.tenantId,
    state: { slug: 'Active' },
    attachment_status: { slug: 'attached' },
    generation: status.generation,
    location_mode: status.mode,
    timeline_count: status.timelineCount,
    shard_number: status.shard.number,
    shard_count: status.shard.count,
    stripe_size: status.shard.count === 0 ? null : status.shard.stripeBlocks,
  };
}

const shardParameters = z.object({
  count: z.number().int().min(0).max(SHARD_COUNT_MAX),
  stripe_size: z.number().int().min(1).max(0xffff_ffff).nullish(),
});

const createTenant = z.object({ new_tenant_id: z.string().optional(), shard_parameters: shardParameters.nullish() });

const splitTenant = z.object({
  new_shard_count: z.number().int().min(2).max(SHARD_COUNT_MAX),
  new_stripe_size: z.number().int().min(1).max(0xffff_ffff).nullish(),
});

const createTimeline = z.object({
  new_timeline_id: z.string().nullish(),
  ancestor_timeline_id: z.string().nullish(),
  ancestor_start_lsn: z.string().nullish(),
  pg_version: z.coerce.number().int().nullish(),
});

/** Throws StorageError `invalid`, naming every wrong field. Unknown fields are allowed. */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new StorageError('invalid', `wrong request: ${problems.join('; ')}`);
}

/** `id`: the one wanted, or null for a fresh one. */
export function parseCreateTenant(body: unknown): {
  id: string | null;
  shards: { count: number; stripeSize: number } | undefined;
} {
  const { new_tenant_id, shard_parameters } = parse(createTenant, body);
  const shards = shard_parameters && { count: shard_parameters.count, stripeSize: shard_parameters.stripe_size ?? 0 };
  return { id: new_tenant_id ?? null, shards: shards ?? undefined };
}

export function parseSplitTenant(body: unknown): { count: number; stripeBlocks: number } {
  const { new_shard_count, new_stripe_size } = parse(splitTenant, body);
  return { count: new_shard_count, stripeBlocks: new_stripe_size ?? DEFAULT_STRIPE_BLOCKS };
}

export function parseCreateTimeline(body: unknown): { id: string | null; origin: TimelineOrigin } {
  const request = parse(createTimeline, body);
  const id = request.new_timeline_id ?? null;
  const ancestorId = request.ancestor_timeline_id ?? null;
  if (ancestorId === null) return { id, origin: { kind: 'bootstrap', pgMajor: request.pg_version ?? 0 } };
  return { id, origin: { kind: 'branch', ancestorId, lsn: parseLsn(request.ancestor_start_lsn ?? '0/0') } };
}
