/**
 * This compute's hold on its timeline: the walproposer's runner, and the way to a filled data directory.
 *
 * The base backup of the page server's newest position is fetched at once, beside the election: mostly that is where the term starts. When
 * the election says otherwise, the one at the term's start is fetched instead, while the quorum is still being brought there; the page
 * server waits until that position is committed and ingested. When all safekeepers are empty the page server's newest position is where
 * the term starts.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { PageserverFeedback, StandbyFeedback } from '../core/messages.js';
import type { ComputeSpec } from '../core/spec.js';
import type { StartTimings } from '../core/status.js';
import type { Account } from './account.js';
import { fetchBaseBackup } from './base-backup.js';
import type { BaseBackupHeader } from './base-backup.js';
import type { TimelineFacts } from './pageserver-client.js';
import { ProposerRunner } from './proposer-runner.js';
import { orAborted, retryUnavailable } from './retry.js';
import { reachStep } from './start-steps.js';

const GREETING_GRACE_MS = 30;
const PEER_TIMEOUT_MS = 10_000;
const HEARTBEAT_MS = 1_000;
const DONOR_TIMEOUT_MS = 5_000;
const CAMPAIGN_RETRY_MIN_MS = 10;
const CAMPAIGN_RETRY_SPREAD_MS = 90;

export interface SessionOptions {
  readonly spec: ComputeSpec;
  readonly facts: TimelineFacts;
  readonly pgVersion: number;
  readonly pgdata: string;
  readonly account: Account | null;
  readonly walWindowBytes: number;
  readonly log: Logger;
  readonly timings: StartTimings;
  onCommitted(lsn: Lsn): void;
  onFeedback(feedback: PageserverFeedback): void;
  onStandbyFeedback(feedback: StandbyFeedback): void;
  onFenced(message: string): void;
}

interface Fetch {
  /** INVALID_LSN until the header came, when the newest position was asked. */
  lsn: Lsn;
  readonly abort: AbortController;
  readonly done: Promise<BaseBackupHeader>;
}

export class StorageSession {
  readonly runner: ProposerRunner;
  private readonly options: SessionOptions;
  private readonly signal: AbortSignal;
  private readonly startedMs = performance.now();
  private readonly recovered: Promise<Lsn>;
  private readonly giveUp: (error: unknown) => void;
  private fetch: Fetch | null = null;
  private electedLsn: Lsn = INVALID_LSN;

  /** `signal` ends `prepare`; the session itself lives until `close`. */
  constructor(options: SessionOptions, signal: AbortSignal) {
    this.options = options;
    this.signal = signal;
    const { promise, resolve, reject } = Promise.withResolvers<Lsn>();
    this.recovered = promise;
    this.recovered.catch(() => undefined);
    this.giveUp = reject;
    const { spec, facts, log } = options;
    this.runner = new ProposerRunner({
      proposer: {
        ttid: spec.ttid,
        peerCount: spec.safekeepers.length,
        membership: { generation: spec.safekeepersGeneration, members: [], newMembers: [] },
        pgVersion: options.pgVersion,
        systemId: facts.systemId,
        segSize: facts.segSize,
        allowTimelineCreation: spec.safekeepersGeneration === 0,
        greetingGraceMs: GREETING_GRACE_MS,
        peerTimeoutMs: PEER_TIMEOUT_MS,
        heartbeatMs: HEARTBEAT_MS,
        donorTimeoutMs: DONOR_TIMEOUT_MS,
        campaignRetryMs: CAMPAIGN_RETRY_MIN_MS + Math.random() * CAMPAIGN_RETRY_SPREAD_MS,
      },
      addrs: spec.safekeepers,
      windowBytes: options.walWindowBytes,
      log,
      events: {
        onNeedStartLsn: () => this.onNeedStartLsn(),
        onElected: (_term, startLsn) => {
          reachStep('elected');
          this.onElected(startLsn);
        },
        onRecovered: (lsn) => {
          options.timings.syncSafekeepersMs = performance.now() - this.startedMs;
          resolve(lsn);
        },
        onCommitted: (lsn) => options.onCommitted(lsn),
        onFeedback: (feedback) => options.onFeedback(feedback),
        onStandbyFeedback: (feedback) => options.onStandbyFeedback(feedback),
        onFenced: (message) => options.onFenced(message),
      },
    });
  }

  /** Resolves with the position where Postgres must start, once a quorum has committed it and the data directory is filled. */
  async prepare(): Promise<Lsn> {
    this.startFetch(INVALID_LSN);
    this.runner.start();
    const startLsn = await orAborted(this.recovered, this.signal);
    const header = await orAborted(this.fetched(), this.signal);
    this.check(header, startLsn);
    return startLsn;
  }

  /** Of the last fetch: one that turns out to be at another position is given up for the next even now. */
  private async fetched(): Promise<BaseBackupHeader> {
    for (;;) {
      const { fetch } = this;
      if (fetch === null) throw new StorageError('internal', 'recovered without an election');
      try {
        const header = await fetch.done;
        if (fetch === this.fetch) return header;
      } catch (error) {
        if (fetch === this.fetch) throw error;
      }
    }
  }

  close(): void {
    this.fetch?.abort.abort();
    this.runner.close();
  }

  private check(header: BaseBackupHeader, startLsn: Lsn): void {
    if (header.lsn !== startLsn) {
      const [backup, quorum] = [formatLsn(header.lsn), formatLsn(startLsn)];
      throw new StorageError(
        'precondition',
        `the base backup is at ${backup}, but the safekeepers' WAL ends at ${quorum}`,
      );
    }
    const { facts } = this.options;
    if (header.systemId !== facts.systemId || header.segSize !== facts.segSize) {
      throw new StorageError('corrupt', 'the base backup belongs to another database system');
    }
  }

  private onNeedStartLsn(): void {
    if (this.fetch === null) this.startFetch(INVALID_LSN);
    else if (this.fetch.lsn !== INVALID_LSN) this.runner.setStartLsn(this.fetch.lsn);
  }

  private onElected(startLsn: Lsn): void {
    this.electedLsn = startLsn;
    const { fetch } = this;
    // The newest was asked for and has not said where it is: its header decides.
    if (fetch === null || (fetch.lsn !== startLsn && fetch.lsn !== INVALID_LSN)) this.fetchInstead(startLsn);
  }

  private fetchInstead(lsn: Lsn): void {
    const before = this.fetch;
    before?.abort.abort();
    // The next one fills the same directory.
    this.startFetch(lsn, before?.done);
  }

  private startFetch(lsn: Lsn, after?: Promise<unknown>): void {
    const { spec, pgdata, account, log, timings } = this.options;
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, this.signal]);
    const startedMs = performance.now();
    const once = async (): Promise<BaseBackupHeader> => {
      const { header, bytes } = await fetchBaseBackup({
        addr: spec.pageserverGrpcAddr,
        ttid: spec.pageserverTtid,
        lsn: fetch.lsn,
        dir: pgdata,
        account,
        signal,
        onHeader: (arrived) => this.onHeader(fetch, arrived),
      });
      timings.basebackupMs = performance.now() - startedMs;
      timings.basebackupBytes = bytes;
      return header;
    };
    const run = async (): Promise<BaseBackupHeader> => {
      await after?.catch(() => undefined);
      return retryUnavailable({ what: 'fetch the base backup', log, signal }, once);
    };
    const fetch: Fetch = { lsn, abort, done: Promise.resolve().then(run) };
    fetch.done.catch((error: unknown) => {
      if (fetch === this.fetch) this.giveUp(error);
    });
    this.fetch = fetch;
  }

  private onHeader(fetch: Fetch, header: BaseBackupHeader): void {
    reachStep('base-backup-header');
    if (fetch !== this.fetch || fetch.lsn !== INVALID_LSN) return;
    fetch.lsn = header.lsn;
    if (this.electedLsn === INVALID_LSN) this.runner.setStartLsn(header.lsn);
    else if (this.electedLsn !== header.lsn) this.fetchInstead(this.electedLsn);
  }
}
