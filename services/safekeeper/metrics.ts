/** What a safekeeper counts. */
import type { LabelledValue, Metrics } from '#shared/runtime/metrics.js';
import type { Timeline } from './io/timeline.js';
import type { Timelines } from './io/timelines.js';
import type { WalObjectCounters, WalObjects } from './io/wal-objects.js';
import type { WalStorageCounters } from './io/wal-storage.js';
import type { BrokerLink } from './rpc/broker-link.js';

export interface MetricSources {
  readonly timelines: Timelines;
  readonly counters: WalStorageCounters;
  readonly link: BrokerLink;
  /** WAL sent to readers. */
  readonly sent: { readonly bytes: number };
  /** Null: no object store. */
  readonly objects: WalObjects | null;
}

export function registerMetrics(metrics: Metrics, sources: MetricSources): void {
  const { timelines, counters, link, sent, objects } = sources;
  const perTimeline = (read: (timeline: Timeline) => number) => (): LabelledValue[] =>
    timelines.all().map((timeline) => {
      const { tenantId, timelineId } = timeline.ttid;
      return { value: read(timeline), labels: { tenant_id: tenantId, timeline_id: timelineId } };
    });
  metrics.gauge('safekeeper_timelines', 'Timelines on this safekeeper', () => timelines.count);
  metrics.counter('safekeeper_wal_written_bytes', 'WAL written', () => counters.writtenBytes);
  metrics.counter('safekeeper_wal_writes', 'Writes of WAL', () => counters.writes);
  metrics.counter('safekeeper_wal_syncs', 'Syncs of WAL', () => counters.syncs);
  metrics.counter('safekeeper_wal_sync_seconds', 'Time spent in syncs of WAL', () => counters.syncSeconds);
  metrics.counter('safekeeper_segments_created', 'WAL segments created', () => counters.segmentsCreated);
  metrics.counter('safekeeper_segments_removed', 'WAL segments removed', () => counters.segmentsRemoved);
  if (objects !== null) registerObjectMetrics(metrics, objects.counters);
  metrics.counter('safekeeper_wal_sent_bytes', 'WAL sent to readers', () => sent.bytes);
  metrics.counter('safekeeper_broker_published', 'Infos published to the broker', () => link.publishedCount);
  metrics.counter('safekeeper_broker_streams', 'Streams opened to the broker', () => link.openedCount);
  metrics.counter('safekeeper_broker_received', 'Messages received from the broker', () => link.receivedCount);
  const gauge = (name: string, help: string, read: (timeline: Timeline) => number): void =>
    metrics.gauge(name, help, perTimeline(read));
  gauge('safekeeper_term', 'Current term', ({ view }) => view.control.term);
  gauge('safekeeper_flush_lsn', 'Durable up to here', ({ view }) => view.flushLsn);
  gauge('safekeeper_commit_lsn', 'Committed up to here', ({ view }) => view.commitLsn);
  gauge('safekeeper_backup_lsn', 'Whole segments below are in the object store', ({ view }) => view.control.backupLsn);
  gauge('safekeeper_evicted', '1: WAL is in the object store alone', (timeline) => Number(timeline.isEvicted));
  gauge('safekeeper_failed', '1: the disk refused, nothing is taken until it works again', (timeline) =>
    timeline.problem === null ? 0 : 1,
  );
  gauge(
    'safekeeper_remote_consistent_lsn',
    'Not needed by the page server below',
    ({ view }) => view.control.remoteConsistentLsn,
  );
  gauge('safekeeper_proposers', 'Connected proposers', (timeline) => timeline.proposerCount);
  gauge('safekeeper_readers', 'Connected WAL readers', (timeline) => timeline.readerCount);
  gauge('safekeeper_standbys', 'Replicas that stream from here', (timeline) => timeline.standbys.count);
}

function registerObjectMetrics(metrics: Metrics, counters: WalObjectCounters): void {
  const count = (name: string, help: string, read: () => number): void => metrics.counter(name, help, read);
  count('safekeeper_backup_segments', 'WAL segments uploaded', () => counters.segmentsUploaded);
  count('safekeeper_backup_partials', 'Unfinished segments uploaded', () => counters.partialsUploaded);
  count('safekeeper_backup_bytes', 'WAL uploaded', () => counters.uploadedBytes);
  count('safekeeper_backup_read_bytes', 'WAL read from the object store', () => counters.downloadedBytes);
  count('safekeeper_backup_failures', 'Requests that the object store failed', () => counters.failures);
}
