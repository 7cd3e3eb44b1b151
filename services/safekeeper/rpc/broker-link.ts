/**
 * This safekeeper's side of the storage broker: publishes active timelines about once a second, and at once when there is news that
 * a page server waits for; takes what peers publish; answers who looks for a timeline. Losing the broker costs nothing but
 * freshness: both streams are opened again for ever.
 */
import type { ClientReadableStream, ClientWritableStream } from '@grpc/grpc-js';
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatTtid, parseTtid, type TenantTimelineId } from '#shared/core/ids.js';
import { INVALID_LSN, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { termFromWire } from '#shared/consensus/term-history.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import type { Logger } from '#shared/runtime/log.js';
import {
  BrokerServiceClient,
  MessageType,
  type PublishSafekeeperInfoRequest,
  type SafekeeperTimelineInfo,
  type SubscribeByFilterResponse,
} from '#gen/neon/broker/v1/broker.js';
import type { PeerInfoInput } from '../core/acceptor-types.js';
import { peerInfoMatters } from '../core/positions.js';
import type { Timeline } from '../io/timeline.js';
import { isBackupWanted } from '../io/wal-backup.js';
import type { Timelines } from '../io/timelines.js';
import { numberFromWire, positionFromWire } from './conversion.js';

const PUBLISH_INTERVAL_MS = 1_000;
/** Commit progress that is worth telling before the next second. */
const PUBLISH_BYTES = 1 << 20;
const RECONNECT_DELAY_MS = 500;
const PUBLISH_DEADLINE_MS = 5_000;

export interface BrokerLinkOptions {
  readonly brokerAddr: string;
  readonly nodeId: number;
  /** Where others reach this safekeeper. */
  readonly grpcAddr: string;
  readonly httpAddr: string;
  readonly availabilityZone: string;
  readonly timelines: Timelines;
  readonly log: Logger;
}

interface Published {
  commitLsn: Lsn;
  active: boolean;
}

export class BrokerLink {
  publishedCount = 0;
  receivedCount = 0;
  /** Streams opened since the start, both kinds. */
  openedCount = 0;
  private readonly options: BrokerLinkOptions;
  private readonly client: BrokerServiceClient;
  private publisher: ClientWritableStream<PublishSafekeeperInfoRequest> | null = null;
  private subscription: ClientReadableStream<SubscribeByFilterResponse> | null = null;
  private readonly published = new WeakMap<Timeline, Published>();
  /** Who looks for peers of a timeline, with what was found so far. */
  private readonly searches = new Map<string, Set<string>>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private stopped = false;
  private complained = false;

  constructor(options: BrokerLinkOptions) {
    this.options = options;
    this.client = createClient(BrokerServiceClient, options.brokerAddr);
  }

  start(): void {
    this.openPublisher();
    this.openSubscription();
    const timer = setInterval(() => this.publishActive(), PUBLISH_INTERVAL_MS);
    this.timers.add(timer);
  }

  stop(): void {
    this.stopped = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.publisher?.cancel();
    this.subscription?.cancel();
    this.client.close();
  }

  /** Called at every change of a timeline; publishes when it is worth it. */
  consider(timeline: Timeline): void {
    const last = this.published.get(timeline);
    const commitLsn = timeline.view.commitLsn;
    if (last?.active === true && commitLsn < last.commitLsn + PUBLISH_BYTES) return;
    if (isActive(timeline)) this.publish(timeline);
  }

  /** Addresses of peers that have WAL of a timeline, which need not be here. None when there is no broker. */
  async discover(ttid: TenantTimelineId, waitMs: number): Promise<string[]> {
    const key = formatTtid(ttid);
    const found = this.searches.get(key) ?? new Set<string>();
    this.searches.set(key, found);
    try {
      await this.ask(ttid, waitMs);
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    } catch (error) {
      this.options.log.debug({ timeline: key, reason: errorText(error) }, 'could not look for peers');
    } finally {
      this.searches.delete(key);
    }
    return [...found];
  }

  /** Asks all peers to publish what they have of a timeline; answers come as their news do. */
  async ask(ttid: TenantTimelineId, deadlineMs = PUBLISH_DEADLINE_MS): Promise<void> {
    const message = { message: { $case: 'safekeeperDiscoveryRequest', value: { ttid: { ...ttid } } } } as const;
    await callUnary(this.client, this.client.publishOne, { message }, { deadlineMs });
  }

  private publishActive(): void {
    for (const timeline of this.options.timelines.all()) {
      const active = isActive(timeline);
      // Once more when it has become idle, so that the last positions are known.
      if (active || this.published.get(timeline)?.active === true) this.publish(timeline);
    }
  }

  /** A message lost because the broker is away or slow is made up for by the next. */
  private publish(timeline: Timeline): void {
    const { publisher } = this;
    if (publisher === null || publisher.writableNeedDrain) return;
    publisher.write({ info: this.infoOf(timeline) });
    this.publishedCount += 1;
    this.published.set(timeline, { commitLsn: timeline.view.commitLsn, active: isActive(timeline) });
  }

  private infoOf(timeline: Timeline): SafekeeperTimelineInfo {
    const { nodeId, grpcAddr, httpAddr, availabilityZone } = this.options;
    const { view } = timeline;
    const { control } = view;
    return {
      safekeeperId: BigInt(nodeId),
      ttid: control.ttid,
      term: BigInt(control.term),
      lastLogTerm: BigInt(view.lastLogTerm),
      flushLsn: lsnToWire(view.flushLsn),
      commitLsn: lsnToWire(view.commitLsn),
      backupLsn: lsnToWire(control.backupLsn),
      remoteConsistentLsn: lsnToWire(control.remoteConsistentLsn),
      peerHorizonLsn: lsnToWire(control.peerHorizonLsn),
      localStartLsn: lsnToWire(control.localStartLsn),
      grpcAddr,
      httpAddr,
      availabilityZone,
      standbyHorizon: lsnToWire(timeline.standbys.horizon ?? INVALID_LSN),
    };
  }

  private openPublisher(): void {
    if (this.stopped) return;
    this.openedCount += 1;
    const stream = this.client.publishSafekeeperInfo((error) => {
      if (this.publisher === stream) this.publisher = null;
      this.lost(error, () => this.openPublisher());
    });
    stream.on('error', () => undefined);
    this.publisher = stream;
  }

  private openSubscription(): void {
    if (this.stopped) return;
    this.openedCount += 1;
    const types = [
      MessageType.SAFEKEEPER_TIMELINE_INFO,
      MessageType.SAFEKEEPER_DISCOVERY_REQUEST,
      MessageType.SAFEKEEPER_DISCOVERY_RESPONSE,
    ];
    const stream = this.client.subscribeByFilter({ types, ttid: undefined });
    this.subscription = stream;
    stream.on('data', (response: SubscribeByFilterResponse) => this.receive(response));
    // A stream that fails may tell so by an error, by its end, or by both.
    let isOver = false;
    const over = (error: Error | null): void => {
      if (isOver) return;
      isOver = true;
      this.lost(error, () => this.openSubscription());
    };
    stream.on('error', over);
    stream.on('end', () => over(null));
  }

  private lost(error: Error | null, reopen: () => void): void {
    if (this.stopped) return;
    if (error !== null && !this.complained) {
      this.complained = true;
      const reason = errorText(fromGrpcError(error));
      this.options.log.warn({ broker: this.options.brokerAddr, reason }, 'lost the storage broker, reconnecting');
    }
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      reopen();
    }, RECONNECT_DELAY_MS);
    this.timers.add(timer);
  }

  private receive(response: SubscribeByFilterResponse): void {
    this.complained = false;
    this.receivedCount += 1;
    const content = response.message?.message;
    try {
      if (content?.$case === 'safekeeperTimelineInfo') this.takeInfo(content.value);
      if (content?.$case === 'safekeeperDiscoveryResponse') this.takeAnswer(content.value.info);
      if (content?.$case === 'safekeeperDiscoveryRequest') this.answer(parseTtid(content.value.ttid));
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.options.log.warn({ reason: error.message }, 'ignored a message of the storage broker');
    }
  }

  private takeAnswer(info: SafekeeperTimelineInfo | undefined): void {
    if (info === undefined || numberFromWire(info.safekeeperId, 'node id') === this.options.nodeId) return;
    if (info.flushLsn > 0n) this.searches.get(formatTtid(parseTtid(info.ttid)))?.add(info.grpcAddr);
    this.takeInfo(info);
  }

  private takeInfo(info: SafekeeperTimelineInfo): void {
    if (numberFromWire(info.safekeeperId, 'node id') === this.options.nodeId) return;
    const timeline = this.options.timelines.find(parseTtid(info.ttid));
    if (timeline === undefined) return;
    const input: PeerInfoInput = {
      kind: 'peer-info',
      lastLogTerm: termFromWire(info.lastLogTerm),
      commitLsn: positionFromWire(info.commitLsn),
      backupLsn: positionFromWire(info.backupLsn),
      peerHorizonLsn: positionFromWire(info.peerHorizonLsn),
      remoteConsistentLsn: positionFromWire(info.remoteConsistentLsn),
    };
    const peer = {
      nodeId: numberFromWire(info.safekeeperId, 'node id'),
      grpcAddr: info.grpcAddr,
      term: termFromWire(info.term),
      flushLsn: positionFromWire(info.flushLsn),
      localStartLsn: positionFromWire(info.localStartLsn),
    };
    timeline.peers.put({ ...peer, ...input }, performance.now());
    if (peerInfoMatters(timeline.view, input)) timeline.submit(input);
  }

  private answer(ttid: ReturnType<typeof parseTtid>): void {
    const timeline = this.options.timelines.find(ttid);
    if (timeline === undefined) return;
    const value = { info: this.infoOf(timeline) };
    callUnary(
      this.client,
      this.client.publishOne,
      { message: { message: { $case: 'safekeeperDiscoveryResponse', value } } },
      { deadlineMs: PUBLISH_DEADLINE_MS },
    ).catch((error: unknown) => {
      this.options.log.debug({ timeline: formatTtid(ttid), reason: errorText(error) }, 'could not answer a discovery');
    });
  }
}

/** Somebody writes or reads, or the page server or the object store still lacks committed WAL. */
function isActive(timeline: Timeline): boolean {
  const { view } = timeline;
  const isUsed = timeline.proposerCount > 0 || timeline.readerCount > 0;
  return isUsed || view.control.remoteConsistentLsn < view.commitLsn || isBackupWanted(timeline);
}
