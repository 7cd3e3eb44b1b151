/** What the page server tells Prometheus. Reads counters that the parts keep anyway. */
import type { LabelledValue, Metrics } from '#shared/runtime/metrics.js';
import type { PagestreamStats } from './edge/pagestream-stats.js';
import type { ActiveTimeline } from './tenant/active-timeline.js';
import type { TenantManager } from './tenant/tenant-manager.js';
import type { IngestStats } from './walreceiver/wal-applier.js';

export interface MetricSources {
  readonly tenants: TenantManager;
  readonly pagestream: PagestreamStats;
  readonly ingest: IngestStats;
}

export function registerMetrics(metrics: Metrics, sources: MetricSources): void {
  const { pagestream, ingest, tenants } = sources;
  const { counter, gauge } = metrics;
  counter('pageserver_pagestream_requests', 'Requests of computes', () => pagestream.requests());
  counter('pageserver_pagestream_pages_at_once', 'Pages answered without waiting', () => pagestream.pagesAtOnce);
  counter('pageserver_pagestream_batches', 'Plans that read several pages', () => pagestream.batches);
  counter('pageserver_pagestream_batched_pages', 'Pages read by such plans', () => pagestream.batchedPages);
  counter('pageserver_pagestream_errors', 'Requests answered with an error', () => pagestream.errors);
  counter('pageserver_wait_lsn', 'Requests that waited for WAL', () => pagestream.waits);
  counter('pageserver_pagestream_slow_milliseconds', 'Time of requests that had to wait for IO or WAL', () =>
    pagestream.slowMilliseconds(),
  );
  gauge('pageserver_pagestream_slow_seconds_bucket', 'Requests that had to wait, by upper bound', () =>
    pagestream.latencyClasses(),
  );
  gauge('pageserver_pagestream_in_flight', 'Requests that wait for IO or WAL now', () => pagestream.inFlight);
  gauge('pageserver_connections', 'Connections of computes', () => pagestream.connections);
  counter('pageserver_ingest_records', 'WAL records ingested', () => ingest.records);
  counter('pageserver_ingest_bytes', 'WAL bytes ingested', () => ingest.bytes);
  gauge('pageserver_tenants', 'Attached tenants', () => tenants.list().length);
  registerTimelineMetrics(metrics, tenants);
}

type PerTimeline = (read: (timeline: ActiveTimeline) => number) => () => LabelledValue[];

function registerMaintenanceMetrics({ counter, gauge }: Metrics, perTimeline: PerTimeline): void {
  gauge(
    'pageserver_min_readable_lsn',
    'Reads below are refused',
    perTimeline(({ store }) => store.minReadableLsn),
  );
  counter(
    'pageserver_image_layers_made',
    'Image layers made by compaction',
    perTimeline(({ store }) => store.imageLayerCount),
  );
  counter(
    'pageserver_layers_collected',
    'Layers removed by garbage collection',
    perTimeline(({ store }) => store.history.removedCount),
  );
  counter(
    'pageserver_ingest_held_back',
    'Times that ingest waited for merges of L0 layers',
    perTimeline(({ store }) => store.heldBackCount),
  );
  counter(
    'pageserver_background_failures',
    'Flushes and compactions that failed and were or will be tried again',
    perTimeline(({ store }) => store.backgroundFailureCount),
  );
}

function registerTimelineMetrics(metrics: Metrics, tenants: TenantManager): void {
  const perTimeline: PerTimeline = (read) => () =>
    [...tenants.timelines()].map((timeline) => ({
      value: read(timeline),
      labels: { tenant_id: timeline.ttid.tenantId, timeline_id: timeline.ttid.timelineId },
    }));
  registerMaintenanceMetrics(metrics, perTimeline);
  const { counter, gauge } = metrics;
  gauge(
    'pageserver_last_record_lsn',
    'End of the last record ingested',
    perTimeline(({ store }) => store.lastRecordLsn),
  );
  gauge(
    'pageserver_remote_consistent_lsn',
    'WAL below is in the object store',
    perTimeline(({ store }) => store.remoteConsistentLsn),
  );
  gauge(
    'pageserver_wal_lag_bytes',
    'WAL that the safekeeper can send and that is not ingested',
    perTimeline((timeline) => timeline.walLagBytes),
  );
  gauge(
    'pageserver_layers',
    'Layers in memory and on disk',
    perTimeline((timeline) => timeline.status().layerCount),
  );
  gauge(
    'pageserver_memory_layer_bytes',
    'In-memory layers',
    perTimeline(({ store }) => store.memoryBytes),
  );
  gauge(
    'pageserver_layer_bytes',
    'Layer files',
    perTimeline(({ store }) => store.layerBytes),
  );
  gauge(
    'pageserver_waiting_readers',
    'Reads that wait for WAL',
    perTimeline(({ store }) => store.waitingReaders),
  );
  counter(
    'pageserver_page_cache_hits',
    'Pages found rebuilt',
    perTimeline(({ store }) => store.pages.hitCount),
  );
  counter(
    'pageserver_page_cache_misses',
    'Pages rebuilt',
    perTimeline(({ store }) => store.pages.missCount),
  );
}
