/**
 * Keeps one timeline supplied with WAL: listens to the broker, lets the policy choose a safekeeper, streams, applies, reports back.
 * Owns the one connection of the timeline. It never gives up and never skips WAL: whatever fails is tried again with back-off from
 * lastRecordLsn, and meanwhile the reason can be read in `status`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { AssertionFailure } from '#shared/core/assert.js';
import { errorKind, errorText } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import { bareTtid } from '#shared/core/shard.js';
import type { Logger } from '#shared/runtime/log.js';
import type { TimelineStore } from '../core/storage/store.js';
import type { BrokerFeed } from './broker-feed.js';
import type { PolicyOptions, SafekeeperState } from './core/receiver-policy.js';
import { ReceiverPolicy } from './core/receiver-policy.js';
import type { IngestStats, RecordSink } from './wal-applier.js';
import { IngestFailure, WalApplier } from './wal-applier.js';
import { WalConnection } from './wal-connection.js';

const TICK_MS = 1_000;
/** Feedback follows ingest this fast, and is repeated each tick. */
const FEEDBACK_DELAY_MS = 50;
const INGEST_RETRY_FIRST_MS = 1_000;
const INGEST_RETRY_MAX_MS = 60_000;

export interface ReceivedTimeline extends RecordSink {
  /** Sum of relation sizes. */
  readonly logicalSizeBytes: number;
}

export interface WalReceiverOptions {
  readonly store: TimelineStore;
  readonly feed: BrokerFeed;
  readonly log: Logger;
  readonly policy: PolicyOptions;
  /** Shown in the safekeeper's log, such as "pageserver-1". */
  readonly clientName: string;
  /** The ingest state at lastRecordLsn: called at first, and after each failed ingest, when a fresh one must be made. */
  readonly openSink: (isAfterFailure: boolean) => Promise<ReceivedTimeline>;
  /** Whether somebody waits in the store itself, such as a read on a branch. */
  readonly hasWaitingReaders: () => boolean;
  readonly stats: IngestStats;
}

export interface ReceiverStatus {
  /** host:port of the safekeeper; empty = none. */
  readonly walSourceAddr: string;
  readonly lastMessageAtMs: number;
  /** Why WAL cannot be ingested; empty = it can. */
  readonly brokenReason: string;
}

export class WalReceiver {
  readonly #options: WalReceiverOptions;
  readonly #policy: ReceiverPolicy;
  readonly #abort = new AbortController();
  readonly #unsubscribe: () => void;
  readonly #ticker: NodeJS.Timeout;
  #sink: ReceivedTimeline | null = null;
  #connection: WalConnection | null = null;
  #sourceAddr = '';
  /** The session that runs or runs out; the next one starts behind it, so that two never ingest at once. */
  #running: Promise<void> = Promise.resolve();
  #isApplying = false;
  #lastMessageAtMs = 0;
  #availableLsn = INVALID_LSN;
  #hasBeenConnected = false;
  /** The last ingest failed: the sink must be made anew. */
  #hasFailed = false;
  #waitingReaders = 0;
  #brokenReason = '';
  #ingestRetryMs = INGEST_RETRY_FIRST_MS;
  #notBeforeMs = 0;
  #feedbackTimer: NodeJS.Timeout | null = null;

  constructor(options: WalReceiverOptions) {
    this.#options = options;
    this.#policy = new ReceiverPolicy(options.policy);
    this.#unsubscribe = options.feed.subscribe(bareTtid(options.store.ttid), (state) => {
      this.#policy.noteInfo(state, performance.now());
      this.#decide();
    });
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#decide();
  }

  get status(): ReceiverStatus {
    return {
      walSourceAddr: this.#sourceAddr,
      lastMessageAtMs: this.#lastMessageAtMs,
      brokenReason: this.#brokenReason,
    };
  }

  /** Sum of relation sizes at the head; 0 until WAL was received once. */
  get logicalSizeBytes(): number {
    return this.#sink?.logicalSizeBytes ?? 0;
  }

  /** WAL that the connected safekeeper could send at its last message and that is not in yet. */
  get lagBytes(): number {
    return this.#sourceAddr === '' ? 0 : Math.max(0, this.#availableLsn - this.#options.store.lastRecordLsn);
  }

  /** A reader waits for WAL that is not here: look for safekeepers. Call the returned function when it waits no more. */
  noteReaderWaits(): () => void {
    this.#waitingReaders++;
    this.#decide();
    return () => {
      this.#waitingReaders--;
    };
  }

  /** Ends the connection and waits until nothing is being ingested. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#unsubscribe();
    clearInterval(this.#ticker);
    if (this.#feedbackTimer !== null) clearTimeout(this.#feedbackTimer);
    this.#disconnect();
    await this.#running;
  }

  #tick(): void {
    this.#sendFeedback();
    this.#decide();
  }

  #decide(): void {
    const nowMs = performance.now();
    if (this.#abort.signal.aborted || nowMs < this.#notBeforeMs) return;
    const { store, feed, log } = this.#options;
    // While received WAL is being worked off, silence is ours, not the safekeeper's.
    if (this.#isApplying) this.#policy.noteMessage({ availableLsn: store.lastRecordLsn, hasWal: true }, nowMs);
    const decision = this.#policy.decide(store.lastRecordLsn, nowMs);
    if (decision.kind === 'connect') {
      log.debug({ safekeeper: decision.to.safekeeperId, reason: decision.reason }, 'chose a safekeeper');
      this.#connect(decision.to);
    } else if (decision.kind === 'disconnect') {
      log.info({ safekeeper: this.#sourceAddr, reason: decision.reason }, 'gave up a WAL connection');
      this.#disconnect();
    }
    const isUrgent = this.#waitingReaders > 0 || this.#options.hasWaitingReaders();
    const need = isUrgent ? 'urgent' : this.#hasBeenConnected ? 'none' : 'idle';
    if (this.#policy.discoveryDue(need, nowMs)) feed.requestDiscovery(bareTtid(store.ttid));
  }

  #disconnect(): void {
    this.#policy.noteDisconnected();
    this.#connection?.close();
    this.#connection = null;
    this.#sourceAddr = '';
  }

  #connect(to: SafekeeperState): void {
    this.#disconnect();
    this.#policy.noteConnecting(to, performance.now());
    this.#sourceAddr = to.grpcAddr;
    const previous = this.#running;
    this.#running = previous.then(() => this.#runSession(to));
  }

  /** One connection from start to end. Rejects only for a broken invariant, which ends the process. */
  async #runSession(to: SafekeeperState): Promise<void> {
    const { log } = this.#options;
    if (!this.#isWanted(to)) return;
    let connection: WalConnection | null = null;
    try {
      this.#sink ??= await this.#options.openSink(this.#hasFailed);
      this.#hasFailed = false;
      // Reading the head may have taken long.
      if (!this.#isWanted(to)) return;
      connection = this.#openConnection(to, this.#sink);
      await connection.run();
      if (this.#connection === connection) log.debug({ safekeeper: to.grpcAddr }, 'the safekeeper ended its stream');
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      if (!this.#abort.signal.aborted) this.#noteFailure(to, error);
    } finally {
      connection?.close();
      if (this.#sourceAddr === to.grpcAddr) this.#disconnect();
    }
  }

  /** False when the receiver was stopped, or has chosen another safekeeper meanwhile. */
  #isWanted(to: SafekeeperState): boolean {
    return !this.#abort.signal.aborted && this.#sourceAddr === to.grpcAddr;
  }

  #openConnection(to: SafekeeperState, sink: ReceivedTimeline): WalConnection {
    const { store, stats, clientName } = this.#options;
    const applier = new WalApplier(store, sink, stats);
    const connection = new WalConnection({
      addr: to.grpcAddr,
      ttid: bareTtid(store.ttid),
      startLsn: applier.inputLsn,
      clientName,
      onMessage: async (message) => {
        const hasWal = message.bytes.length > 0;
        this.#policy.noteMessage({ availableLsn: message.availableLsn, hasWal }, performance.now());
        this.#lastMessageAtMs = Date.now();
        this.#availableLsn = message.availableLsn;
        this.#hasBeenConnected = true;
        if (hasWal) await this.#apply(applier, message);
        else this.#decide();
      },
    });
    this.#connection = connection;
    this.#options.log.info({ safekeeper: to.grpcAddr, from: formatLsn(applier.inputLsn) }, 'receiving WAL');
    return connection;
  }

  async #apply(
    applier: WalApplier,
    message: { startLsn: Parameters<WalApplier['apply']>[0]; bytes: Uint8Array },
  ): Promise<void> {
    this.#isApplying = true;
    try {
      await applier.apply(message.startLsn, message.bytes);
    } finally {
      this.#isApplying = false;
    }
    this.#brokenReason = '';
    this.#ingestRetryMs = INGEST_RETRY_FIRST_MS;
    this.#feedbackTimer ??= setTimeout(() => {
      this.#feedbackTimer = null;
      this.#sendFeedback();
    }, FEEDBACK_DELAY_MS);
  }

  #noteFailure(to: SafekeeperState, error: unknown): void {
    const { log } = this.#options;
    const isIngest = error instanceof IngestFailure;
    if (isIngest || errorKind(error) === 'corrupt' || errorKind(error) === 'internal') {
      // What the sink remembers of the head may be half-changed: read it anew.
      this.#sink = null;
      this.#hasFailed = true;
      this.#brokenReason = errorText(error);
      this.#notBeforeMs = performance.now() + this.#ingestRetryMs;
      this.#ingestRetryMs = Math.min(this.#ingestRetryMs * 2, INGEST_RETRY_MAX_MS);
      log.error({ safekeeper: to.grpcAddr, err: error }, 'could not ingest WAL, will try again');
    } else {
      log.info({ safekeeper: to.grpcAddr, reason: errorText(error) }, 'lost a WAL connection, will try again');
    }
    void sleep(Math.max(0, this.#notBeforeMs - performance.now()), undefined, { signal: this.#abort.signal }).then(
      () => this.#decide(),
      () => undefined,
    );
  }

  #sendFeedback(): void {
    const { store } = this.#options;
    this.#connection?.sendFeedback({
      currentTimelineSizeBytes: BigInt(this.logicalSizeBytes),
      lastReceivedLsn: BigInt(store.lastRecordLsn),
      diskConsistentLsn: BigInt(store.diskConsistentLsn),
      remoteConsistentLsn: BigInt(store.remoteConsistentLsn),
      replyTimeUs: BigInt(Date.now()) * 1000n,
      shardNumber: store.shard.number,
      shardCount: store.shard.count,
    });
  }
}
