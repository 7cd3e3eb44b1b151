/**
 * A timeline in use: its store, what ingest knows of its head, its WAL receiver, and its readers. Owns their start and stop.
 */
import { errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import { WalIngest } from '../core/ingest/wal-ingest.js';
import type { RelTag } from '../core/keyspace.js';
import { TimelineView } from '../core/view/timeline-view.js';
import type { CompactionOptions } from '../io/compaction.js';
import type { GcOptions, GcResult } from '../io/gc.js';
import type { Timeline } from '../io/timeline.js';
import type { BrokerFeed } from '../walreceiver/broker-feed.js';
import type { PolicyOptions } from '../walreceiver/core/receiver-policy.js';
import type { IngestStats } from '../walreceiver/wal-applier.js';
import { WalReceiver } from '../walreceiver/wal-receiver.js';
import type { WalSupply } from './timeline-reader.js';
import { TimelineReader } from './timeline-reader.js';
import type { TimelineStatus } from './timeline-status.js';

/** Each round reduces what is due; a call that goes on for longer leaves the rest to the background. */
const COMPACTION_ROUNDS_MAX = 1000;

/** What the timelines of a page server share. */
export interface TimelineEnv {
  readonly feed: BrokerFeed;
  readonly log: Logger;
  readonly policy: PolicyOptions;
  readonly clientName: string;
  readonly ingestStats: IngestStats;
}

export class ActiveTimeline {
  readonly store: Timeline;
  readonly view: TimelineView;
  readonly reader: TimelineReader;
  readonly receiver: WalReceiver;
  readonly #log: Logger;
  /** The head as ingest sees it: made once, and anew after each failed ingest. */
  #opening: Promise<WalIngest> | null = null;
  #ingest: WalIngest | null = null;
  #isStopping = false;

  constructor(store: Timeline, env: TimelineEnv) {
    this.store = store;
    this.#log = env.log.child({ tenant: store.ttid.tenantId, timeline: store.ttid.timelineId });
    const head = { relationSize: (rel: RelTag, at: Lsn) => this.#ingest?.relationSize(rel, at) };
    this.view = new TimelineView(store, head);
    this.reader = new TimelineReader(store, this.view, head, this.#supply());
    this.receiver = new WalReceiver({
      store,
      feed: env.feed,
      log: this.#log,
      policy: env.policy,
      clientName: env.clientName,
      stats: env.ingestStats,
      hasWaitingReaders: () => store.waitingReaders > 0,
      openSink: (isAfterFailure) => this.#openIngest(isAfterFailure),
    });
    // So that reads at the head find the sizes of relations in memory; the receiver tries again if this fails.
    this.#openIngest(false).catch((error: unknown) =>
      this.#log.debug({ reason: errorText(error) }, 'could not read the head of the timeline yet'),
    );
  }

  get ttid(): TenantTimelineId {
    return this.store.ttid;
  }

  /** Resolves when the head was read, or could not be (then it is tried again when WAL comes). */
  async whenOpen(): Promise<void> {
    await this.#opening?.catch(() => undefined);
  }

  get walLagBytes(): number {
    return this.receiver.lagBytes;
  }

  status(): TimelineStatus {
    const { store } = this;
    const { walSourceAddr, lastMessageAtMs, brokenReason } = this.receiver.status;
    return {
      ttid: store.ttid,
      state: this.#isStopping ? 'stopping' : brokenReason === '' ? 'active' : 'broken',
      brokenReason,
      ancestor: store.ancestor,
      lastRecordLsn: store.lastRecordLsn,
      prevRecordLsn: store.prevRecordLsn,
      diskConsistentLsn: store.diskConsistentLsn,
      remoteConsistentLsn: store.remoteConsistentLsn,
      initdbLsn: store.initdbLsn,
      minReadableLsn: store.minReadableLsn,
      logicalSizeBytes: this.#ingest?.logicalSizeBytes ?? 0,
      physicalSizeBytes: store.layerBytes,
      layerCount: store.layers.layers.length + store.memoryLayers.length,
      pgMajor: store.pgMajor,
      systemId: store.systemId,
      segSize: store.segSize,
      walSourceAddr,
      lastMessageAtMs,
    };
  }

  /** Flushes what is in memory to the object store. Returns what is there then. */
  checkpoint(): Promise<Lsn> {
    return this.store.checkpoint();
  }

  /** Compacts until nothing is due. Returns how often something was. */
  async compact(options: CompactionOptions): Promise<number> {
    let rounds = 0;
    while (rounds < COMPACTION_ROUNDS_MAX && (await this.store.compact(options))) rounds++;
    return rounds;
  }

  collectGarbage(options: GcOptions): Promise<GcResult> {
    return this.store.collectGarbage(options);
  }

  /** Stops receiving, optionally flushes (for at most flushTimeoutMs), and closes the store. Waiting readers get `cancelled`. */
  async stop(flushTimeoutMs: number): Promise<void> {
    this.#isStopping = true;
    await this.receiver.stop();
    if (flushTimeoutMs > 0) await this.#flush(flushTimeoutMs);
    await this.whenOpen();
    await this.store.close();
  }

  /** What cannot be flushed is still on the safekeepers and will be received again. */
  async #flush(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), timeoutMs);
    });
    const outcome = await Promise.race([this.store.checkpoint().catch((error: unknown) => error), limit]);
    clearTimeout(timer);
    if (typeof outcome !== 'number') this.#log.warn({ reason: errorText(outcome) }, 'stopped without a full flush');
  }

  #supply(): WalSupply {
    const receiver = (): WalReceiver => this.receiver;
    return {
      noteReaderWaits: () => receiver().noteReaderWaits(),
      get brokenReason() {
        return receiver().status.brokenReason;
      },
    };
  }

  #openIngest(isAfterFailure: boolean): Promise<WalIngest> {
    if (isAfterFailure) {
      this.#opening = null;
      this.#ingest = null;
      this.store.discardUnfinished();
    }
    if (this.#opening !== null) return this.#opening;
    const opening = WalIngest.open(this.store, this.#log);
    this.#opening = opening;
    opening.then(
      (ingest) => {
        if (this.#opening === opening) this.#ingest = ingest;
      },
      () => {
        if (this.#opening === opening) this.#opening = null;
      },
    );
    return opening;
  }
}
