/**
 * JSON of the maintenance calls. Settings have the names that deployment scripts of this kind of system use; durations are texts such as
 * "7 days", "10m", "1h 30m", or seconds as a number. Settings that this server does not have are passed over.
 */
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { parseLsn } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantOverrides } from '../core/storage/tenant-settings.js';
import type { GcOptions } from '../io/gc.js';
import { parse } from './json.js';

const UNIT_S: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
const UNIT_NAMES: ReadonlyArray<readonly [RegExp, string]> = [
  [/^(ms|msec|millis)$/, 'ms'],
  [/^(s|sec|secs|second|seconds)$/, 's'],
  [/^(m|min|mins|minute|minutes)$/, 'm'],
  [/^(h|hr|hrs|hour|hours)$/, 'h'],
  [/^(d|day|days)$/, 'd'],
  [/^(w|week|weeks)$/, 'w'],
];

/** Seconds of "1h 30m" and the like; NaN for what is none. */
export function parseDurationS(text: string): number {
  const parts = [...text.trim().matchAll(/(\d+)\s*([a-z]+)\s*/gy)];
  const length = parts.reduce((sum, part) => sum + part[0].length, 0);
  if (parts.length === 0 || length !== text.trim().length) return NaN;
  return parts.reduce((sum, [, count, name]) => {
    const unit = UNIT_NAMES.find(([pattern]) => pattern.test(name!))?.[1];
    return sum + Number(count) * (unit === undefined ? NaN : UNIT_S[unit]!);
  }, 0);
}

const duration = z.union([z.number(), z.string()]).transform((value, context) => {
  const seconds = typeof value === 'number' ? value : parseDurationS(value);
  if (!Number.isNaN(seconds)) return seconds;
  context.addIssue({ code: 'custom', message: `"${value}" is not a duration such as "7 days" or "10m"` });
  return z.NEVER;
});

const tenantConfig = z.object({
  gc_horizon: z.number().nullish(),
  pitr_interval: duration.nullish(),
  image_creation_threshold: z.number().nullish(),
  compaction_threshold: z.number().nullish(),
  checkpoint_distance: z.number().nullish(),
  checkpoint_timeout: duration.nullish(),
  lsn_lease_length: duration.nullish(),
});

const tenantConfigRequest = tenantConfig.extend({ tenant_id: z.string() });

export function parseTenantConfig(body: unknown): { tenantId: string; overrides: TenantOverrides } {
  const request = parse(tenantConfigRequest, body);
  const timeoutS = request.checkpoint_timeout ?? undefined;
  const overrides = {
    gcHorizonBytes: request.gc_horizon ?? undefined,
    pitrIntervalS: request.pitr_interval ?? undefined,
    imageCreationThreshold: request.image_creation_threshold ?? undefined,
    compactionThreshold: request.compaction_threshold ?? undefined,
    checkpointDistanceBytes: request.checkpoint_distance ?? undefined,
    checkpointTimeoutMs: timeoutS === undefined ? undefined : Math.round(timeoutS * 1000),
    lsnLeaseLengthS: request.lsn_lease_length ?? undefined,
  };
  return { tenantId: request.tenant_id, overrides };
}

export function tenantConfigJson(config: TenantOverrides): Record<string, unknown> {
  const seconds = (value: number | undefined) => (value === undefined ? undefined : `${value}s`);
  const { checkpointTimeoutMs } = config;
  return {
    gc_horizon: config.gcHorizonBytes,
    pitr_interval: seconds(config.pitrIntervalS),
    image_creation_threshold: config.imageCreationThreshold,
    compaction_threshold: config.compactionThreshold,
    checkpoint_distance: config.checkpointDistanceBytes,
    checkpoint_timeout: checkpointTimeoutMs === undefined ? undefined : `${checkpointTimeoutMs}ms`,
    lsn_lease_length: seconds(config.lsnLeaseLengthS),
  };
}

const gcRequest = z.object({
  gc_horizon: z.number().int().min(0).nullish(),
  pitr_interval: duration.nullish(),
});

export function parseGcRequest(body: unknown): GcOptions {
  const { gc_horizon, pitr_interval } = parse(gcRequest, body);
  return { gcHorizonBytes: gc_horizon ?? undefined, pitrIntervalS: pitr_interval ?? undefined };
}

const flag = z.enum(['true', 'false', '']).transform((text) => text !== 'false');
const compactQuery = z.object({
  force_l0_compaction: flag.optional(),
  force_image_layer_creation: flag.optional(),
  enhanced_gc_bottom_most_compaction: flag.optional(),
});

export function parseCompactQuery(query: unknown): { forceMerge: boolean; forceImages: boolean; isBottom: boolean } {
  const fields = parse(compactQuery, query);
  return {
    forceMerge: fields.force_l0_compaction ?? false,
    forceImages: fields.force_image_layer_creation ?? false,
    isBottom: fields.enhanced_gc_bottom_most_compaction ?? false,
  };
}

const timestampQuery = z.object({ timestamp: z.iso.datetime({ offset: true, local: true }) });

/** Unix time of an RFC 3339 text; without an offset it is UTC. */
export function parseTimestampQuery(query: unknown): number {
  const { timestamp } = parse(timestampQuery, query);
  const hasOffset = /(?:Z|[+-]\d\d:?\d\d)$/.test(timestamp);
  return Date.parse(hasOffset ? timestamp : `${timestamp}Z`);
}

const lsnField = z.object({ lsn: z.string() });

/** Of a query or a body. Throws StorageError `invalid`. */
export function parseLsnField(fields: unknown): Lsn {
  const { lsn } = parse(lsnField, fields);
  try {
    return parseLsn(lsn);
  } catch (cause) {
    throw new StorageError('invalid', `lsn: "${lsn}" is not an LSN`, { cause });
  }
}
