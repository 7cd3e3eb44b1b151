/** What is told about a timeline by gRPC and HTTP. */
import type { ShardIdentity } from '#shared/core/shard.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { AncestorPoint } from '../core/storage/store.js';
import type { LocationMode } from './location.js';

export type TimelineState = 'active' | 'stopping' | 'broken';

export interface TimelineStatus {
  readonly ttid: TenantTimelineId;
  readonly state: TimelineState;
  /** Why WAL cannot be ingested; reads of what is there go on. Empty unless broken. */
  readonly brokenReason: string;
  readonly ancestor: AncestorPoint | null;
  readonly lastRecordLsn: Lsn;
  /** 0 = not known (at a branch point). */
  readonly prevRecordLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly initdbLsn: Lsn;
  readonly minReadableLsn: Lsn;
  /** Sum of relation sizes at the head. */
  readonly logicalSizeBytes: number;
  /** Sum of layer file sizes. */
  readonly physicalSizeBytes: number;
  readonly layerCount: number;
  readonly pgMajor: number;
  readonly systemId: bigint;
  readonly segSize: number;
  /** host:port of the safekeeper that WAL comes from; empty = none. */
  readonly walSourceAddr: string;
  /** Unix time of its last message; 0 = never. */
  readonly lastMessageAtMs: number;
}

export interface TenantStatus {
  readonly tenantId: TenantId;
  readonly shard: ShardIdentity;
  readonly generation: number;
  readonly mode: LocationMode;
  readonly timelineCount: number;
}

/** How a timeline begins. */
export type TimelineOrigin =
  | { readonly kind: 'bootstrap'; readonly pgMajor: number }
  /** lsn 0 = the ancestor's head. */
  | { readonly kind: 'branch'; readonly ancestorId: string; readonly lsn: Lsn };
