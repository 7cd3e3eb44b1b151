/** neon.pageserver.v1.PageService. */
import type { PageServiceServer } from '#gen/neon/pageserver/v1/page_service.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { ActiveTimeline } from '../tenant/active-timeline.js';
import { getBaseBackup } from './base-backup.js';
import { getPages } from './get-pages.js';
import { getDbSize, getRelSize } from './sizes.js';
import { getSlruSegment } from './slru-segment.js';

export interface PageServiceDeps {
  /** StorageError `not-found` when there is none. */
  readonly timelines: { find(ttid: TenantTimelineId): ActiveTimeline };
  readonly waitLsnTimeoutMs: number;
}

export function pageService(deps: PageServiceDeps): PageServiceServer {
  return {
    getPages: getPages(deps),
    getRelSize: getRelSize(deps),
    getDbSize: getDbSize(deps),
    getSlruSegment: getSlruSegment(deps),
    getBaseBackup: getBaseBackup(deps),
  };
}
