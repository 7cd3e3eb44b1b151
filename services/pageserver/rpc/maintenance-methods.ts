/** ManagementService: compaction, garbage collection, and what history is kept and for how long. */
import type { ManagementServiceServer, TenantConfig } from '#gen/neon/pageserver/v1/management.js';
import { LsnByTimestampKind } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import { parseShardId, parseShardTtid } from '#shared/core/shard.js';
import { formatLsn, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import type { TenantOverrides } from '../core/storage/tenant-settings.js';
import type { ManagementDeps } from './management-service.js';

type MaintenanceMethods = Pick<
  ManagementServiceServer,
  | 'runGc'
  | 'runCompaction'
  | 'getLsnByTimestamp'
  | 'getTimestampOfLsn'
  | 'leaseLsn'
  | 'getTenantConfig'
  | 'setTenantConfig'
>;

const KINDS = {
  present: LsnByTimestampKind.PRESENT,
  future: LsnByTimestampKind.FUTURE,
  past: LsnByTimestampKind.PAST,
  nodata: LsnByTimestampKind.NODATA,
} as const;

export function maintenanceMethods({ tenants }: ManagementDeps): MaintenanceMethods {
  return {
    runGc: unary(async (request) => {
      const { cutoff, layersRemoved, bytesRemoved } = await tenants.find(parseShardTtid(request.ttid)).collectGarbage({
        gcHorizonBytes: countFromWire(request.gcHorizonBytes),
        pitrIntervalS: request.pitrIntervalS,
      });
      return { cutoffLsn: lsnToWire(cutoff), layersRemoved, bytesRemoved: BigInt(bytesRemoved) };
    }),
    runCompaction: unary(async ({ ttid, forceMerge, forceImages }) => ({
      rounds: await tenants.find(parseShardTtid(ttid)).compact({ forceMerge, forceImages }),
    })),
    getLsnByTimestamp: unary(async ({ ttid, timestampMs }) => {
      const { kind, lsn } = tenants.find(parseShardTtid(ttid)).store.lsnOfTime(Number(timestampMs));
      return { kind: KINDS[kind], lsn: lsnToWire(lsn) };
    }),
    getTimestampOfLsn: unary(async ({ ttid, lsn }) => {
      const at = lsnFromWire(lsn);
      const timeMs = tenants.find(parseShardTtid(ttid)).store.timeOfLsn(at);
      if (timeMs === null) throw new StorageError('not-found', `no commit is known at or below ${formatLsn(at)}`);
      return { timestampMs: BigInt(timeMs) };
    }),
    leaseLsn: unary(async ({ ttid, lsn }) => ({
      validUntilMs: BigInt(Math.floor(tenants.find(parseShardTtid(ttid)).store.leaseLsn(lsnFromWire(lsn)))),
    })),
    getTenantConfig: unary(async ({ tenantId }) => {
      const { overrides, effective } = tenants.config(parseShardId(tenantId));
      return { overrides: configToWire(overrides), effective: configToWire(effective) };
    }),
    setTenantConfig: unary(async ({ tenantId, config }) => {
      if (config === undefined) throw new StorageError('invalid', 'the request has no settings (config is required)');
      return { effective: configToWire(await tenants.setConfig(parseShardId(tenantId), configFromWire(config))) };
    }),
  };
}

function countFromWire(count: bigint | undefined): number | undefined {
  if (count === undefined) return undefined;
  const value = Number(count);
  if (!Number.isSafeInteger(value)) throw new StorageError('invalid', `${count} is too large`);
  return value;
}

function countToWire(count: number | undefined): bigint | undefined {
  return count === undefined ? undefined : BigInt(count);
}

function configFromWire(config: TenantConfig): TenantOverrides {
  const { gcHorizonBytes, checkpointDistanceBytes, ...rest } = config;
  return {
    ...rest,
    gcHorizonBytes: countFromWire(gcHorizonBytes),
    checkpointDistanceBytes: countFromWire(checkpointDistanceBytes),
  };
}

function configToWire(config: TenantOverrides): TenantConfig {
  return {
    gcHorizonBytes: countToWire(config.gcHorizonBytes),
    pitrIntervalS: config.pitrIntervalS,
    imageCreationThreshold: config.imageCreationThreshold,
    compactionThreshold: config.compactionThreshold,
    checkpointDistanceBytes: countToWire(config.checkpointDistanceBytes),
    checkpointTimeoutMs: config.checkpointTimeoutMs,
    lsnLeaseLengthS: config.lsnLeaseLengthS,
  };
}
