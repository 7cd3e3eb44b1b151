/**
 * This compute's hold on its timeline: the walproposer's runner, and the way to a filled data directory.
 *
 * The base backup of the page server's newest position is under way already, beside the election: mostly that is where the term starts. When
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
import { BackupFetch } from './backup-fetch.js';
import type { BackupFetchOptions } from './backup-fetch.js';
import type { BaseBackupHeader } from './base-backup.js';
import type { TimelineFacts } from './pageserver-client.js';
import { ProposerRunner } from './proposer-runner.js';
import { orAborted } from './retry.js';
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
  /** How a base backup at another position is got. */
  readonly fetch: BackupFetchOptions;
  readonly walWindowBytes: number;
  readonly log: Logger;
  readonly timings: StartTimings;
  onCommitted(lsn: Lsn): void;
  onFeedback(feedback: PageserverFeedback): void;
  onStandbyFeedback(feedback: StandbyFeedback): void;
  onFenced(message: string): void;
}

export class StorageSession {
  readonly runner: ProposerRunner;
  private readonly options: SessionOptions;
  private readonly signal: AbortSignal;
  private readonly startedMs = performance.now();
  private readonly recovered: Promise<Lsn>;
  private readonly giveUp: (error: unknown) => void;
  private fetch: BackupFetch;
  private electedLsn: Lsn = INVALID_LSN;

  /** `newest`: the fetch of the page server's newest position. `signal` ends `prepare`; the session itself lives until `close`. */
  constructor(options: SessionOptions, newest: BackupFetch, signal: AbortSignal) {
    this.options = options;
    this.fetch = newest;
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
    this.follow(this.fetch);
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
      try {
        const header = await fetch.done;
        if (fetch === this.fetch) return header;
      } catch (error) {
        if (fetch === this.fetch) throw error;
      }
    }
  }

  close(): void {
    this.fetch.abort();
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
    if (this.fetch.lsn !== INVALID_LSN) this.runner.setStartLsn(this.fetch.lsn);
  }

  private onElected(startLsn: Lsn): void {
    this.electedLsn = startLsn;
    const { lsn } = this.fetch;
    // The newest was asked for and has not said where it is: its header decides.
    if (lsn !== startLsn && lsn !== INVALID_LSN) this.fetchInstead(startLsn);
  }

  private fetchInstead(lsn: Lsn): void {
    this.fetch = new BackupFetch(this.options.fetch, lsn, this.fetch);
    this.follow(this.fetch);
  }

  private follow(fetch: BackupFetch): void {
    const isWanted = (): boolean => fetch === this.fetch;
    fetch.done.catch((error: unknown) => {
      if (isWanted()) this.giveUp(error);
    });
    void fetch.located.then((lsn) => {
      reachStep('base-backup-header');
      if (!isWanted()) return;
      if (this.electedLsn === INVALID_LSN) this.runner.setStartLsn(lsn);
      else if (this.electedLsn !== lsn) this.fetchInstead(this.electedLsn);
    });
  }
}
