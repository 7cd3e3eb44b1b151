/** Timelines in messages. */
import type { CreateTimelineRequest, TenantInfo, TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { TimelineState } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { TenantStatus, TimelineOrigin, TimelineStatus } from '../tenant/timeline-status.js';

const STATES = {
  active: TimelineState.ACTIVE,
  stopping: TimelineState.STOPPING,
  broken: TimelineState.BROKEN,
} as const;

export function timelineInfo(status: TimelineStatus): TimelineInfo {
  return {
    ttid: status.ttid,
    state: STATES[status.state],
    brokenReason: status.brokenReason,
    ancestorTimelineId: status.ancestor?.timelineId ?? '',
    ancestorLsn: BigInt(status.ancestor?.lsn ?? 0),
    lastRecordLsn: lsnToWire(status.lastRecordLsn),
    prevRecordLsn: lsnToWire(status.prevRecordLsn),
    diskConsistentLsn: lsnToWire(status.diskConsistentLsn),
    remoteConsistentLsn: lsnToWire(status.remoteConsistentLsn),
    initdbLsn: lsnToWire(status.initdbLsn),
    minReadableLsn: lsnToWire(status.minReadableLsn),
    logicalSizeBytes: BigInt(status.logicalSizeBytes),
    physicalSizeBytes: BigInt(status.physicalSizeBytes),
    layerCount: status.layerCount,
    pgMajorVersion: status.pgMajor,
    systemId: status.systemId,
    walSegSize: status.segSize,
    walSourceAddr: status.walSourceAddr,
  };
}

export function tenantInfo(status: TenantStatus): TenantInfo {
  const { tenantId, shard, generation, timelineCount } = status;
  const { number: shardNumber, count: shardCount, stripeBlocks: stripeSize } = shard;
  return { tenantId, generation, timelineCount, shardNumber, shardCount, stripeSize };
}

/** Throws StorageError `invalid` when no mode is given. */
export function originFromWire(mode: CreateTimelineRequest['mode']): TimelineOrigin {
  switch (mode?.$case) {
    case 'bootstrap':
      return { kind: 'bootstrap', pgMajor: mode.value.pgMajorVersion };
    case 'branch':
      return {
        kind: 'branch',
        ancestorId: mode.value.ancestorTimelineId,
        lsn: lsnFromWire(mode.value.ancestorStartLsn),
      };
    default:
      throw new StorageError('invalid', 'the request does not say how the timeline begins: bootstrap or branch');
  }
}
