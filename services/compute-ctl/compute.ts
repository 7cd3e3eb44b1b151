/**
 * One compute's life: start, running, end. Owns the order of things and what a failure means; the work is done in io/.
 *
 * A failure at any time (fenced by a newer compute, Postgres gone, storage refuses) ends in `failed`: Postgres is stopped at once, so that
 * no commit can return that the quorum does not have, and `ended` resolves with an exit code. A request to stop ends in `terminated`.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatAddr } from '#shared/core/addr.js';
import type { Logger } from '#shared/runtime/log.js';
import { specFile } from './config.js';
import type { ComputeConfig } from './config.js';
import { parseConnstr } from './core/connstr.js';
import type { PageserverFeedback, StandbyFeedback } from './core/messages.js';
import { renderPgHba, renderPostgresConf } from './core/postgres-conf.js';
import { parseSpec } from './core/spec.js';
import type { ComputeSpec } from './core/spec.js';
import { isEnding, noTimings } from './core/status.js';
import type { ComputePhase, ComputeStatus } from './core/status.js';
import { postgresAccount } from './io/account.js';
import type { Account } from './io/account.js';
import { applyCatalog } from './io/catalog.js';
import { CommitFeed } from './io/commit-feed.js';
import { FeedbackFile } from './io/feedback-file.js';
import type { Throttling } from './io/feedback-file.js';
import { timelineFacts } from './io/pageserver-client.js';
import type { TimelineFacts } from './io/pageserver-client.js';
import type { LsnLease } from './io/lsn-lease.js';
import { prepareStandby } from './io/standby-start.js';
import { lastWal } from './io/last-files.js';
import { makeSocketDir, writeOwned } from './io/pgdata.js';
import { findPostgres, PostgresProcess, stopLeftover } from './io/postgres-process.js';
import type { PostgresBinary } from './io/postgres-process.js';
import { orAborted, retryUnavailable } from './io/retry.js';
import { fetchSlotWal } from './io/slot-wal.js';
import { StorageSession } from './io/storage-session.js';

/** The exit code of a compute that lost its timeline to a newer one: starting it again would only fight. */
export const EXIT_FENCED = 3;
const EXIT_FAILED = 1;
const DEFAULT_PORT = 55432;
const SETTLE_MS = 1_000;
const SETTLE_POLL_MS = 5;
const COMMIT_WAIT_MS = 5_000;

export interface Termination {
  /** Where committed WAL ends; INVALID_LSN when no WAL was ever written by this compute. */
  readonly flushLsn: Lsn;
  readonly exitCode: number;
}

/** What the start needs before it can talk to storage. */
interface Groundwork {
  readonly spec: ComputeSpec;
  readonly facts: TimelineFacts;
  readonly binary: PostgresBinary;
  readonly account: Account | null;
  readonly socketDir: string;
  readonly port: number;
  readonly user: string;
}

export class Compute {
  /** Exit code, once this compute has come to its end by failure or by request. */
  readonly ended: Promise<number>;
  readonly timings = noTimings();
  /** Called with the milliseconds that some WAL took from Postgres to its commit. */
  onCommitLatency: ((latencyMs: number) => void) | null = null;
  /** host:port for clients; known once Postgres was started. */
  pgAddr = '';
  private readonly config: ComputeConfig;
  private readonly log: Logger;
  private readonly stopping = new AbortController();
  private readonly end: (exitCode: number) => void;
  private phase: ComputePhase = 'configuration_pending';
  private error = '';
  private spec: ComputeSpec | null = null;
  private startLsn: Lsn = INVALID_LSN;
  private session: StorageSession | null = null;
  private postgres: PostgresProcess | null = null;
  private feed: CommitFeed | null = null;
  private ground: Groundwork | null = null;
  private lease: LsnLease | null = null;
  private promotion: Promise<Lsn> | null = null;
  private feedbackFile: FeedbackFile | null = null;
  private socketDir: string | null = null;
  private termination: Promise<Termination> | null = null;

  constructor(config: ComputeConfig, log: Logger) {
    this.config = config;
    this.log = log;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.end = resolve;
  }

  status(): ComputeStatus {
    const proposer = this.session?.runner.proposer;
    return {
      phase: this.phase,
      error: this.error,
      ttid: this.spec?.ttid ?? null,
      startLsn: this.startLsn,
      commitLsn: proposer?.commitLsn ?? INVALID_LSN,
      term: proposer !== undefined && proposer.startLsn !== INVALID_LSN ? proposer.term : 0,
      timings: this.timings,
      connstr: this.config.connstr,
      startTimeMs: Date.now() - performance.now(),
    };
  }

  /** For metrics; null before the session exists. */
  get storage(): StorageSession | null {
    return this.session;
  }

  get commits(): CommitFeed | null {
    return this.feed;
  }

  /** How writers are held back by a page server that lags; null before Postgres runs. */
  get throttling(): Throttling | null {
    return this.feedbackFile?.throttling() ?? null;
  }

  /** Resolves when queries are answered; false when it failed or was told to stop, then `ended` says more. */
  async start(): Promise<boolean> {
    try {
      await this.bringUp();
    } catch (error) {
      // While it ends, the cancelled steps of the start are no news.
      if (!isEnding(this.phase)) await this.fail(error);
      return false;
    }
    this.phase = 'running';
    this.timings.totalMs = performance.now();
    const { syncSafekeepersMs, basebackupMs, startPostgresMs, configMs, totalMs } = this.timings;
    const rounded = { syncSafekeepersMs, basebackupMs, startPostgresMs, configMs, totalMs };
    this.log.info({ startLsn: formatLsn(this.startLsn), ...rounded }, 'running');
    return true;
  }

  private async bringUp(): Promise<void> {
    this.phase = 'init';
    const { signal } = this.stopping;
    const ground = await orAborted(this.prepareGround(), signal);
    this.ground = ground;
    if (ground.spec.mode.kind === 'primary') await this.bringUpPrimary(ground);
    else await this.bringUpStandby(ground);
  }

  /** A server that does not write: no election, no walproposer, and nothing to apply. */
  private async bringUpStandby(ground: Groundwork): Promise<void> {
    const { spec, facts, account } = ground;
    const { timings, log } = this;
    const options = { spec, facts, account, pgdata: this.config.pgdata, log, signal: this.stopping.signal, timings };
    const { startLsn, lease } = await prepareStandby(options);
    this.lease = lease;
    this.startLsn = startLsn;
    const startedMs = performance.now();
    await orAborted(this.launchPostgres(ground), this.stopping.signal);
    timings.startPostgresMs = performance.now() - startedMs;
  }

  private async bringUpPrimary(ground: Groundwork): Promise<void> {
    const { signal } = this.stopping;
    const session = this.openSession(ground);
    const startLsn = await session.prepare();
    this.startLsn = startLsn;
    const { pgdata } = this.config;
    const { segSize } = ground.facts;
    session.runner.source.attachPostgres({ startLsn, walDir: join(pgdata, 'pg_wal'), segSize });
    await orAborted(this.startPostgres(ground, session), signal);
    const configStartMs = performance.now();
    const { socketDir, port, user } = ground;
    await orAborted(applyCatalog({ socketDir, port, user }, ground.spec, this.log), signal);
    this.timings.configMs = performance.now() - configStartMs;
  }

  private async prepareGround(): Promise<Groundwork> {
    const { config, log } = this;
    const { signal } = this.stopping;
    const path = specFile(config);
    const text = await readFile(path, 'utf8').catch((cause: unknown) => {
      throw new StorageError('invalid', `could not read the spec ${path}`, { cause });
    });
    const spec = parseSpec(text, config.pageserverGrpc ?? null);
    this.spec = spec;
    const connstr = parseConnstr(config.connstr);
    const factsOfTimeline = retryUnavailable({ what: 'ask the page server for the timeline', log, signal }, () =>
      timelineFacts(spec.pageserverGrpcAddr, spec.ttid, signal),
    );
    const [facts, binary, account] = await Promise.all([
      factsOfTimeline,
      findPostgres(config.pgbin),
      postgresAccount(config.pgUser),
      stopLeftover(config.pgdata, log),
    ]);
    if (Math.floor(binary.version / 10_000) !== facts.pgMajor) {
      throw new StorageError(
        'invalid',
        `${binary.path} is version ${binary.version}, the timeline needs PostgreSQL ${facts.pgMajor}`,
      );
    }
    this.socketDir = await makeSocketDir(config.pgdata, account);
    const port = Number(spec.settings.get('port') ?? connstr.port ?? DEFAULT_PORT);
    return { spec, facts, binary, account, socketDir: this.socketDir, port, user: connstr.user ?? 'cloud_admin' };
  }

  private openSession(ground: Groundwork): StorageSession {
    const { spec, facts, account } = ground;
    const options = {
      spec,
      facts,
      account,
      pgVersion: ground.binary.version,
      pgdata: this.config.pgdata,
      walWindowBytes: this.config.walWindowBytes,
      log: this.log,
      timings: this.timings,
      onCommitted: (lsn: Lsn) => this.feed?.committed(lsn),
      onFeedback: (feedback: PageserverFeedback) => {
        this.feed?.applied(feedback.diskConsistentLsn);
        this.feedbackFile?.put(feedback);
      },
      onStandbyFeedback: (feedback: StandbyFeedback) => this.feed?.standbysNeed(feedback),
      onFenced: (message: string) => this.onFenced(message),
    };
    this.session = new StorageSession(options, this.stopping.signal);
    return this.session;
  }

  private async startPostgres(ground: Groundwork, session: StorageSession): Promise<void> {
    const { account, socketDir, port, user } = ground;
    const { pgdata } = this.config;
    const startedMs = performance.now();
    const { proposer, addrs } = session.runner;
    await fetchSlotWal({
      pgdata,
      ttid: ground.spec.ttid,
      startLsn: this.startLsn,
      segSize: ground.facts.segSize,
      systemId: ground.facts.systemId,
      account,
      log: this.log,
      term: proposer.term,
      donors: proposer.holdersOf(this.startLsn).map((index) => addrs[index] ?? ''),
    });
    const postgres = await this.launchPostgres(ground);
    this.feedbackFile = FeedbackFile.open(pgdata);
    // The base backup came from it. Of its disk nothing is known yet.
    const unknown = { diskConsistentLsn: INVALID_LSN, remoteConsistentLsn: INVALID_LSN };
    this.feedbackFile.put({ lastReceivedLsn: this.startLsn, ...unknown });
    this.feed = await CommitFeed.attach({
      server: { socketDir, port, user },
      systemId: ground.facts.systemId,
      startLsn: this.startLsn,
      runner: session.runner,
      log: this.log,
      serverRuns: () => postgres.exit === null,
    });
    this.feed.onLatency = (latencyMs) => this.onCommitLatency?.(latencyMs);
    this.timings.startPostgresMs = performance.now() - startedMs;
  }

  /** On a filled data directory. Resolves when it takes connections. */
  private async launchPostgres(ground: Groundwork): Promise<PostgresProcess> {
    const { account, socketDir, port } = ground;
    const { pgdata, startTimeoutMs } = this.config;
    const conf = renderPostgresConf(ground.spec, { socketDir, port });
    if (conf.skipped.length > 0)
      this.log.warn({ settings: conf.skipped }, 'left out settings that a stock server does not know');
    writeOwned(join(pgdata, 'postgresql.conf'), conf.text, account);
    writeOwned(join(pgdata, 'pg_hba.conf'), renderPgHba(), account);
    const postgres = new PostgresProcess({ bin: ground.binary.path, pgdata, account, log: this.log });
    this.postgres = postgres;
    void postgres.exited.then((exit) => {
      if (isEnding(this.phase) || this.postgres !== postgres) return;
      const how = exit.signal === null ? `with code ${exit.code ?? -1}` : `by ${exit.signal}`;
      void this.fail(new StorageError('internal', `Postgres ended unexpectedly ${how}: ${postgres.lastWords()}`));
    });
    await postgres.ready(startTimeoutMs);
    this.pgAddr = formatAddr('127.0.0.1', port);
    return postgres;
  }

  /**
   * Turns a replica into the primary, at the same address: its server is stopped, and a primary started as any other is. The election
   * ends the old primary, if there still is one, and finds all that it has committed.
   */
  promote(): Promise<Lsn> {
    this.promotion ??= this.runPromotion().finally(() => {
      this.promotion = null;
    });
    return this.promotion;
  }

  private async runPromotion(): Promise<Lsn> {
    const { ground } = this;
    if (ground?.spec.mode.kind === 'primary' && this.phase === 'running') return this.startLsn;
    if (this.phase !== 'running' || ground?.spec.mode.kind !== 'replica') {
      throw new StorageError('precondition', 'only a running replica can be promoted');
    }
    this.log.info('promoting this replica to primary');
    const spec: ComputeSpec = { ...ground.spec, mode: { kind: 'primary' } };
    const standby = this.postgres;
    this.phase = 'init';
    this.postgres = null;
    this.spec = spec;
    this.ground = { ...ground, spec };
    try {
      await standby?.stop('immediate');
      await this.bringUpPrimary(this.ground);
    } catch (error) {
      if (!isEnding(this.phase)) await this.fail(error);
      throw error;
    }
    this.phase = 'running';
    this.log.info({ startLsn: formatLsn(this.startLsn) }, 'promoted to primary');
    return this.startLsn;
  }

  private onFenced(message: string): void {
    if (!isEnding(this.phase)) {
      void this.fail(new StorageError('fenced', message));
      return;
    }
    // An orderly stop would wait in vain for its last WAL to be committed.
    this.log.warn(message);
    void this.postgres?.stop('immediate');
  }

  /** Ends everything at once: from here on no commit can return. */
  private async fail(error: unknown): Promise<void> {
    if (isEnding(this.phase)) return;
    this.phase = 'failed';
    this.error = errorText(error);
    this.log.error({ err: error, reason: this.error }, 'compute failed');
    this.feed?.close();
    this.feedbackFile?.close();
    this.stopping.abort(error);
    if (this.postgres !== null) await this.postgres.stop('immediate');
    this.session?.close();
    this.lease?.close();
    await this.removeSocketDir();
    this.end(errorKind(error) === 'fenced' ? EXIT_FENCED : EXIT_FAILED);
  }

  /**
   * Stops Postgres with a shutdown checkpoint, and waits until the quorum has all its WAL. After stopTimeoutMs without a quorum it is
   * stopped the hard way: nothing acknowledged is lost, but the exit code tells.
   */
  terminate(mode: 'fast' | 'immediate'): Promise<Termination> {
    this.termination ??= this.runTermination(mode);
    return this.termination;
  }

  private async runTermination(mode: 'fast' | 'immediate'): Promise<Termination> {
    const commitLsn = (): Lsn => this.session?.runner.proposer.commitLsn ?? INVALID_LSN;
    if (this.phase === 'failed') return { flushLsn: commitLsn(), exitCode: await this.ended };
    this.phase = mode === 'fast' ? 'termination_pending_fast' : 'termination_pending_immediate';
    this.log.info('terminating');
    this.stopping.abort(new StorageError('cancelled', 'the compute is told to stop'));
    let exitCode = 0;
    if (this.postgres !== null) {
      const exit = await this.postgres.stop('fast', this.config.stopTimeoutMs);
      let settled = exit.code === 0 && (await this.settle());
      if (settled && (await this.keepLastFiles())) settled = await this.settle();
      if (!settled) {
        exitCode = EXIT_FAILED;
        this.log.error({ commitLsn: formatLsn(commitLsn()) }, 'Postgres was stopped before a quorum had all its WAL');
      }
    }
    this.feed?.close();
    this.feedbackFile?.close();
    this.session?.close();
    this.lease?.close();
    await this.removeSocketDir();
    this.phase = 'terminated';
    this.log.info({ flushLsn: formatLsn(commitLsn()) }, 'terminated');
    this.end(exitCode);
    return { flushLsn: commitLsn(), exitCode };
  }

  /** Appends what Postgres wrote to files after its last WAL. True when there is more WAL to commit now. */
  private async keepLastFiles(): Promise<boolean> {
    const { session, feed, log } = this;
    if (session === null || feed === null || session.runner.proposer.phase !== 'leading') return false;
    try {
      const wal = await lastWal({ pgdata: this.config.pgdata, endLsn: feed.receivedLsn, log });
      if (wal === null) return false;
      session.runner.feed(wal.beginLsn, wal.bytes);
      feed.receivedLsn = (wal.beginLsn + wal.bytes.length) as Lsn;
      log.info({ files: wal.files.length, bytes: wal.bytes.length }, 'kept statistics and slots');
      return true;
    } catch (error) {
      log.warn({ reason: errorText(error) }, 'could not keep statistics and slots');
      return false;
    }
  }

  /** Everything that Postgres sent is committed, and the safekeepers that can be reached know it: the next start has nothing to decide. */
  private async settle(): Promise<boolean> {
    const proposer = this.session?.runner.proposer;
    if (proposer === undefined || this.feed === null) return true;
    const endLsn = this.feed.receivedLsn;
    const committedByMs = performance.now() + COMMIT_WAIT_MS;
    while (proposer.commitLsn < endLsn && performance.now() < committedByMs) await sleep(SETTLE_POLL_MS);
    const settledByMs = performance.now() + SETTLE_MS;
    while (!proposer.isSettled(endLsn) && performance.now() < settledByMs) await sleep(SETTLE_POLL_MS);
    return proposer.commitLsn >= endLsn;
  }

  private async removeSocketDir(): Promise<void> {
    if (this.socketDir !== null) await rm(this.socketDir, { recursive: true, force: true });
  }
}
