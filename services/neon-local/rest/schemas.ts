/** What the REST interface takes and gives, as zod schemas: they check requests, and OpenAPI is made from them. */
import type { S3Options } from '#gen/neon/control/v1/storage.js';
import { lsnToWire, parseLsn } from '#shared/core/lsn.js';
import { z } from 'zod';

const lsn = z.string().nullable().describe('position in WAL, such as 0/1A2B3C8; null = not known');
const count = z.number().int();
const timeMs = z.number().int().describe('milliseconds since the Unix epoch; 0 = not known');

/** How an S3 server is reached; what is left out comes from the environment of the daemon. */
export const s3In = {
  endpoint: z.string().default(''),
  region: z.string().default(''),
  access_key_id: z.string().default(''),
  secret_access_key: z.string().default(''),
  session_token: z.string().default(''),
  virtual_host_style: z.boolean().default(false),
};

export interface S3Input {
  readonly endpoint: string;
  readonly region: string;
  readonly access_key_id: string;
  readonly secret_access_key: string;
  readonly session_token: string;
  readonly virtual_host_style: boolean;
}

export function s3Message(input: S3Input): S3Options {
  return {
    ...{ endpoint: input.endpoint, region: input.region, accessKeyId: input.access_key_id },
    ...{ secretAccessKey: input.secret_access_key, sessionToken: input.session_token },
    virtualHostStyle: input.virtual_host_style,
  };
}

export const storage = z
  .strictObject({
    name: z.string(),
    type: z.enum(['native', 's3']),
    path: z.string().describe('file:///dir or s3://bucket/prefix?endpoint=…'),
    state: z.enum(['starting', 'running', 'backoff', 'stopped', 'failed']),
    error: z.string(),
    tenant_count: count,
    branch_count: count,
    compute_count: count,
    is_default: z.boolean(),
    created_at_ms: timeMs,
  })
  .meta({ id: 'Storage' });

export const pg = z
  .looseObject({
    name: z.string(),
    tenant_id: z.string(),
    branch_name: z.string(),
    timeline_id: z.string(),
    state: z.enum(['starting', 'running', 'backoff', 'stopped', 'failed']),
    url: z.string().describe('connection URL; empty when it does not run'),
    pg_port: count,
    pid: count,
    error: z.string(),
    log_path: z.string(),
    grpc_addr: z.string(),
    storage_name: z.string(),
    suspend_after_s: count.describe('suspended after this time without activity; 0 = never'),
    is_replica: z.boolean().describe('it runs, and follows the primary of its branch'),
    connect_url: z.string().describe('URL through the connect port, which starts the compute'),
    autoscaling_limit_min_cu: z.number().describe('bounds of its size in compute units; both 0 = not limited'),
    autoscaling_limit_max_cu: z.number(),
    current_cu: z.number().describe('its size now; 0 = it does not run, or is not limited'),
  })
  .meta({ id: 'Pg' });

export const branch = z
  .strictObject({
    name: z.string(),
    tenant_id: z.string(),
    timeline_id: z.string(),
    parent_name: z.string(),
    parent_lsn: lsn,
    last_record_lsn: lsn,
    logical_size_bytes: count,
    created_at_ms: timeMs,
    storage_name: z.string(),
    snapshot_names: z.array(z.string()),
  })
  .meta({ id: 'Branch' });

export const snapshot = z
  .strictObject({
    name: z.string(),
    tenant_id: z.string(),
    branch_name: z.string(),
    timeline_id: z.string(),
    lsn,
    time_ms: timeMs,
    created_at_ms: timeMs,
    storage_name: z.string(),
    logical_size_bytes: count,
  })
  .meta({ id: 'Snapshot' });

export const tenant = z
  .strictObject({ tenant_id: z.string(), is_default: z.boolean(), storage_name: z.string() })
  .meta({ id: 'Tenant' });

export const pitr = z
  .strictObject({
    branch_name: z.string(),
    time_s: z.number(),
    size_bytes: count,
    is_set: z.boolean(),
    oldest_lsn: lsn,
  })
  .meta({ id: 'Pitr' });

export const operation = z
  .strictObject({
    id: z.string(),
    kind: z.string(),
    state: z.enum(['running', 'done', 'failed', 'cancelled']),
    phase: z.string(),
    done_bytes: count,
    total_bytes: count.describe('0 = not known yet'),
    reused_bytes: count.describe('of done_bytes: those that were there already'),
    started_at_ms: timeMs,
    ended_at_ms: timeMs,
    error: z.string(),
    result: z.string(),
  })
  .meta({ id: 'Operation' });

const side = z.strictObject({ name: z.string(), head_lsn: lsn, wal_bytes: count, logical_size_bytes: count });
export const diff = z
  .strictObject({
    common_branch_name: z.string(),
    common_lsn: lsn,
    left: side,
    right: side,
    schema_diff: z.string(),
  })
  .meta({ id: 'BranchDiff' });

const service = z.strictObject({
  name: z.string(),
  state: z.string(),
  pid: count,
  grpc_addr: z.string(),
  http_addr: z.string(),
  pg_addr: z.string(),
  restart_count: count,
  log_path: z.string(),
});
export const status = z
  .strictObject({
    repo_dir: z.string(),
    services: z.array(service),
    computes: z.array(pg),
    pid: count,
    rest_url: z.string(),
    connect_addr: z.string(),
  })
  .meta({ id: 'Status' });

export const error = z
  .strictObject({ error: z.string().describe('what is wrong, and what to do'), kind: z.string() })
  .meta({ id: 'Error' });

/** The bounds of a compute's size in a request. */
export const sizeIn = {
  autoscaling_limit_min_cu: z
    .number()
    .min(0)
    .default(0)
    .describe('compute units, multiples of 0.25; both 0 = not limited'),
  autoscaling_limit_max_cu: z.number().min(0).default(0),
};

export function sizeMessage(input: { autoscaling_limit_min_cu: number; autoscaling_limit_max_cu: number }) {
  return {
    autoscalingLimitMinCu: input.autoscaling_limit_min_cu,
    autoscalingLimitMaxCu: input.autoscaling_limit_max_cu,
  };
}

/** LSN in a request. */
export const lsnIn = z.string().regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, 'is no LSN; write such as 0/1A2B3C8');
export const timeIn = z
  .union([z.string(), z.number()])
  .describe('"2026-11-29 03:15:00" (UTC), "5m ago", or milliseconds since the Unix epoch');

/** A point of history; at most one is given. */
export const pointIn = { snapshot: z.string().optional(), lsn: lsnIn.optional(), time: timeIn.optional() };

export function wireLsn(text: string | undefined): bigint {
  return text === undefined ? 0n : lsnToWire(parseLsn(text));
}
