/**
 * Between Postgres and the walproposer: WAL goes from the walsender to the safekeepers, commit positions come back. When only the
 * replication connection breaks (somebody terminated the walsender), it is made again where the WAL was left.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '#shared/core/errors.js';
import type { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { StandbyFeedback } from '../core/messages.js';
import type { ServerAddress } from './catalog.js';
import type { ProposerRunner } from './proposer-runner.js';
import { ReplicationClient } from './replication-client.js';

const REATTACH_MS = 100;

export interface CommitFeedOptions {
  readonly server: ServerAddress;
  readonly systemId: bigint;
  readonly startLsn: Lsn;
  readonly runner: ProposerRunner;
  readonly log: Logger;
  readonly serverRuns: () => boolean;
}

export class CommitFeed {
  /** End of the WAL that Postgres has sent. */
  receivedLsn: Lsn;
  /** Called with the milliseconds from the arrival of some WAL to its commit; not for every piece. */
  onLatency: ((latencyMs: number) => void) | null = null;
  private readonly options: CommitFeedOptions;
  private client: ReplicationClient | null = null;
  private closed = false;
  private commitLsn: Lsn = INVALID_LSN;
  private applyLsn: Lsn = INVALID_LSN;
  private standbyFeedback: StandbyFeedback | null = null;
  private sample: { readonly endLsn: Lsn; readonly arrivedMs: number } | null = null;

  private constructor(options: CommitFeedOptions) {
    this.options = options;
    this.receivedLsn = options.startLsn;
  }

  static async attach(options: CommitFeedOptions): Promise<CommitFeed> {
    const feed = new CommitFeed(options);
    await feed.connect();
    return feed;
  }

  committed(lsn: Lsn): void {
    this.commitLsn = lsn;
    this.client?.report(lsn, this.applyLsn);
    if (this.sample !== null && lsn >= this.sample.endLsn) {
      this.onLatency?.(performance.now() - this.sample.arrivedMs);
      this.sample = null;
    }
  }

  applied(lsn: Lsn): void {
    this.applyLsn = lsn;
    this.client?.report(this.commitLsn, lsn);
  }

  /** The replicas of this timeline need these transactions' view. */
  standbysNeed(feedback: StandbyFeedback): void {
    this.standbyFeedback = feedback;
    this.client?.keepFor(feedback);
  }

  close(): void {
    this.closed = true;
    this.client?.close();
    this.client = null;
  }

  private async connect(): Promise<void> {
    const { server, systemId, runner } = this.options;
    const settings = {
      ...server,
      startLsn: this.receivedLsn,
      onWal: (beginLsn: Lsn, bytes: Uint8Array) => {
        this.receivedLsn = (beginLsn + bytes.length) as Lsn;
        this.sample ??= { endLsn: this.receivedLsn, arrivedMs: performance.now() };
        runner.feed(beginLsn, bytes);
      },
      onEnd: (error: StorageError | null) => this.onEnd(error),
    };
    this.client = await ReplicationClient.start(settings, systemId);
    this.client.report(runner.proposer.commitLsn, this.applyLsn);
    if (this.standbyFeedback !== null) this.client.keepFor(this.standbyFeedback);
  }

  private onEnd(error: StorageError | null): void {
    this.client = null;
    const { log } = this.options;
    if (error === null) log.info({ endLsn: formatLsn(this.receivedLsn) }, 'Postgres ended its WAL stream');
    else if (!this.closed) void this.reattach(error);
  }

  private async reattach(cause: StorageError): Promise<void> {
    const { log, serverRuns } = this.options;
    for (let error: unknown = cause; !this.closed;) {
      await sleep(REATTACH_MS);
      if (this.closed || !serverRuns()) return;
      log.warn({ reason: errorText(error), lsn: formatLsn(this.receivedLsn) }, 'attaching to the walsender again');
      try {
        await this.connect();
        return;
      } catch (failure) {
        error = failure;
      }
    }
  }
}
