/** Metrics of the object store's requests and of what waits for them. */
import type { LabelledValue, Metrics } from '#shared/runtime/metrics.js';
import type { LayerCache } from './io/layer-cache.js';
import type { MeteredStore, OperationStats } from './io/metered-store.js';
import { REMOTE_OPERATIONS } from './io/metered-store.js';
import { LOCATION_MODES } from './tenant/location.js';
import type { TenantManager } from './tenant/tenant-manager.js';

export interface RemoteMetricSources {
  readonly store: MeteredStore;
  readonly layers: LayerCache;
  readonly tenants: TenantManager;
}

export function registerRemoteMetrics(metrics: Metrics, { store, layers, tenants }: RemoteMetricSources): void {
  const { counter, gauge } = metrics;
  const each = (read: (stats: OperationStats) => number) => (): LabelledValue[] =>
    REMOTE_OPERATIONS.map((operation) => ({ value: read(store.stats[operation]), labels: { operation } }));
  counter(
    'pageserver_remote_requests',
    'Requests to the object store',
    each(({ count }) => count),
  );
  counter(
    'pageserver_remote_failures',
    'Requests that failed for good',
    each(({ failureCount }) => failureCount),
  );
  counter(
    'pageserver_remote_milliseconds',
    'Time of requests, tries and pauses included',
    each((s) => s.milliseconds),
  );
  counter(
    'pageserver_remote_bytes',
    'Bytes of objects sent and received whole or in ranges',
    each(({ bytes }) => bytes),
  );
  counter('pageserver_remote_retries', 'Further tries of requests', () => store.retryCount);
  gauge(
    'pageserver_remote_in_flight',
    'Requests under way',
    each(({ inFlight }) => inFlight),
  );
  gauge(
    'pageserver_remote_waiting',
    'Transfers that wait for a turn',
    each(({ waiting }) => waiting),
  );
  gauge('pageserver_local_layer_bytes', 'Layer files in the working directory', () => layers.local.usedBytes);
  counter('pageserver_layer_downloads', 'Layers fetched from the object store', () => layers.downloadCount);
  counter('pageserver_layer_evictions', 'Local layer files removed for room', () => layers.evictionCount);
  const perTimeline = (read: (timeline: TimelineStoreLike) => number) => (): LabelledValue[] =>
    [...tenants.timelines()].map(({ ttid, store: of }) => ({
      value: read(of),
      labels: { tenant_id: ttid.tenantId, timeline_id: ttid.timelineId },
    }));
  gauge(
    'pageserver_frozen_layers',
    'In-memory layers that wait to be written',
    perTimeline((t) => t.memoryLayers.length - 1),
  );
  gauge(
    'pageserver_upload_queue_layers',
    'Layer files that are not in the object store yet',
    perTimeline((t) => t.layers.layers.filter((layer) => !layer.uploaded).length),
  );
  gauge('pageserver_locations', 'Tenants by what this page server is to them', () =>
    LOCATION_MODES.filter((mode) => mode !== 'detached').map((mode) => ({
      value: tenants.locations().filter(({ location }) => location.mode === mode).length,
      labels: { mode },
    })),
  );
}

interface TimelineStoreLike {
  readonly memoryLayers: readonly unknown[];
  readonly layers: { readonly layers: ReadonlyArray<{ readonly uploaded: boolean }> };
}
