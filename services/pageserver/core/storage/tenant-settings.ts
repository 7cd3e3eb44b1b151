import type { ShardIdentity } from '#shared/core/shard.js';

/** What can be set for a tenant while it is in use. Defaults are the server's limits. */
export interface TenantSettings {
  /** WAL below this distance from the head is no reason to keep history. */
  readonly gcHorizonBytes: number;
  /** History of this time is kept; 0 = only the horizon counts. */
  readonly pitrIntervalS: number;
  /** Delta layers over a key range that make image layers due. */
  readonly imageCreationThreshold: number;
  /** L0 layers that make a merge due: every read of a key that is nowhere in them asks all their filters. */
  readonly compactionThreshold: number;
  /** WAL after which an in-memory layer is flushed: bounds what must be streamed again after a crash. */
  readonly checkpointDistanceBytes: number;
  /** Age at which an in-memory layer is flushed: lets safekeepers drop WAL of a timeline that writes little. */
  readonly checkpointTimeoutMs: number;
  /** How long an LSN lease is good. */
  readonly lsnLeaseLengthS: number;
}

/** What was set; the rest is default. */
export type TenantOverrides = { readonly [K in keyof TenantSettings]?: TenantSettings[K] | undefined };

/** Shared by the timelines of a tenant: a change replaces `current`. */
export interface SettingsRef {
  current: TenantSettings;
  /** Which part of the tenant this is; absent = all of it. */
  readonly shard?: ShardIdentity | undefined;
}

export function resolveSettings(defaults: TenantSettings, overrides: TenantOverrides = {}): TenantSettings {
  return {
    gcHorizonBytes: overrides.gcHorizonBytes ?? defaults.gcHorizonBytes,
    pitrIntervalS: overrides.pitrIntervalS ?? defaults.pitrIntervalS,
    imageCreationThreshold: overrides.imageCreationThreshold ?? defaults.imageCreationThreshold,
    compactionThreshold: overrides.compactionThreshold ?? defaults.compactionThreshold,
    checkpointDistanceBytes: overrides.checkpointDistanceBytes ?? defaults.checkpointDistanceBytes,
    checkpointTimeoutMs: overrides.checkpointTimeoutMs ?? defaults.checkpointTimeoutMs,
    lsnLeaseLengthS: overrides.lsnLeaseLengthS ?? defaults.lsnLeaseLengthS,
  };
}
