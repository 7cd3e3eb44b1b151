/** What a compute must know of its timeline before it talks to safekeepers. */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { checkSegmentSize } from '#shared/postgres/wal-layout.js';
import { callUnary, createClient } from '#shared/rpc/client.js';

export interface TimelineFacts {
  readonly systemId: bigint;
  readonly segSize: number;
  readonly pgMajor: number;
}

export async function timelineFacts(addr: string, ttid: TenantTimelineId, signal: AbortSignal): Promise<TimelineFacts> {
  const client = createClient(ManagementServiceClient, addr);
  try {
    const { timeline } = await callUnary(client, client.getTimeline, { ttid: { ...ttid } }, { signal });
    if (timeline === undefined) throw new StorageError('corrupt', 'the page server answered without a timeline');
    checkSegmentSize(timeline.walSegSize);
    return { systemId: timeline.systemId, segSize: timeline.walSegSize, pgMajor: timeline.pgMajorVersion };
  } finally {
    client.close();
  }
}
