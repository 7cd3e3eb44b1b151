/** neon.pageserver.v1.HistoryService. */
import type { HistoryServiceServer } from '#gen/neon/pageserver/v1/history.js';
import { parseTenantId, parseTtid } from '#shared/core/ids.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import type { TenantManager } from '../tenant/tenant-manager.js';
import { tenantSizes } from '../tenant/tenant-sizes.js';
import { timelineInfo } from './timeline-info.js';

export function historyService({ tenants }: { readonly tenants: TenantManager }): HistoryServiceServer {
  return {
    detachAncestor: unary(async ({ ttid }, { signal }) => {
      const { detachedFrom, reparented } = await tenants.detachAncestor(parseTtid(ttid), signal);
      return {
        detachedFromTimelineId: detachedFrom.timelineId,
        detachedAtLsn: lsnToWire(detachedFrom.lsn),
        reparentedTimelineIds: [...reparented],
      };
    }),
    resetBranch: unary(async ({ ttid, newTimelineId, ancestorStartLsn }, { signal }) => {
      const branch = parseTtid(ttid);
      const successor = parseTtid({ tenantId: branch.tenantId, timelineId: newTimelineId });
      const timeline = await tenants.resetBranch(branch, { successor, lsn: lsnFromWire(ancestorStartLsn), signal });
      return { timeline: timelineInfo(timeline.status()) };
    }),
    compactHistory: unary(async ({ ttid, force }) => {
      const { bytesFreed, ...counts } = await tenants.find(parseTtid(ttid)).store.compactHistory({ force });
      return { ...counts, bytesFreed: BigInt(bytesFreed) };
    }),
    getTenantSizes: unary(async ({ tenantId }) => {
      const sizes = await tenantSizes(tenants.listTimelines(parseTenantId(tenantId)));
      return {
        syntheticSizeBytes: BigInt(sizes.syntheticSizeBytes),
        physicalSizeBytes: BigInt(sizes.physicalSizeBytes),
        timelines: sizes.timelines.map((timeline) => ({
          timelineId: timeline.timelineId,
          logicalSizeBytes: BigInt(timeline.logicalSizeBytes),
          physicalSizeBytes: BigInt(timeline.physicalSizeBytes),
          historySizeBytes: BigInt(timeline.historySizeBytes),
          syntheticSizeBytes: BigInt(timeline.syntheticSizeBytes),
        })),
      };
    }),
  };
}
