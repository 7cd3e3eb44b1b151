/**
 * One Postgres on storage: brought up from a spec, changed while it runs, stopped. Owns the order of these things; what they mean for
 * the compute is decided in compute.ts.
 *
 * An instance lives once. It is lost when Postgres ends unasked or a newer compute takes the timeline over: `onLost` says why, and no
 * commit that the quorum does not have can return from then on, since Postgres is stopped at once.
 */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asStorageError, errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatAddr } from '#shared/core/addr.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ComputeConfig } from './config.js';
import { parseConnstr } from './core/connstr.js';
import type { PageserverFeedback, StandbyFeedback } from './core/messages.js';
import { renderPostgresConf } from './core/postgres-conf.js';
import type { ComputeSpec } from './core/spec.js';
import { needsNewStart } from './core/spec-change.js';
import type { StartTimings } from './core/status.js';
import type { Account } from './io/account.js';
import { BackupFetch } from './io/backup-fetch.js';
import type { BackupFetchOptions } from './io/backup-fetch.js';
import { applyCatalog } from './io/catalog.js';
import type { ServerAddress } from './io/catalog.js';
import { CommitFeed } from './io/commit-feed.js';
import { FeedbackFile } from './io/feedback-file.js';
import type { Throttling } from './io/feedback-file.js';
import { canGoOn, clearGround, startServer } from './io/early-server.js';
import type { EarlyServer, EarlyServerOptions } from './io/early-server.js';
import type { Host } from './io/host.js';
import { timelineFacts } from './io/pageserver-client.js';
import type { TimelineFacts } from './io/pageserver-client.js';
import type { LsnLease } from './io/lsn-lease.js';
import { lastWal } from './io/last-files.js';
import { makeSocketDir } from './io/pgdata.js';
import type { PostgresBinary, PostgresProcess } from './io/postgres-process.js';
import { announceStorage, applySettings } from './io/reload.js';
import { orAborted, retryUnavailable } from './io/retry.js';
import { fetchSlotWal } from './io/slot-wal.js';
import { prepareStandby } from './io/standby-start.js';
import { StorageSession } from './io/storage-session.js';
import { reachStep } from './io/start-steps.js';

const DEFAULT_PORT = 55432;
const SETTLE_MS = 1_000;
const SETTLE_POLL_MS = 5;
const COMMIT_WAIT_MS = 5_000;

export interface InstanceOptions {
  readonly config: ComputeConfig;
  readonly host: Host;
  readonly log: Logger;
  readonly timings: StartTimings;
  /** WAL that this timeline must have at the least; a start before it would lose commits. INVALID_LSN: not known. */
  readonly leastLsn: Lsn;
  /** A server that waits in the data directory already. */
  readonly early: EarlyServer | null;
  /** Postgres has its data, and nothing is to be done until it is up. */
  onOpened(): void;
  onLost(error: StorageError): void;
  onCommitLatency(latencyMs: number): void;
}

/** What the start needs before it can talk to safekeepers. */
interface Groundwork {
  readonly spec: ComputeSpec;
  readonly facts: TimelineFacts;
  readonly binary: PostgresBinary;
  readonly account: Account | null;
  readonly server: ServerAddress;
  /** It waits for its data. */
  readonly postgres: PostgresProcess;
  /** Of a primary: the base backup that its term probably starts at. */
  readonly newest: BackupFetch | null;
}

export interface Stopped {
  /** Where committed WAL ends; INVALID_LSN when this instance never wrote any. */
  readonly flushLsn: Lsn;
  /** All that Postgres wrote is committed. */
  readonly settled: boolean;
}

export class Instance {
  startLsn: Lsn = INVALID_LSN;
  session: StorageSession | null = null;
  feed: CommitFeed | null = null;
  /** host:port for clients; known once Postgres was started. */
  pgAddr = '';
  /** Settings that were written but need a new start of Postgres. */
  pendingRestart: readonly string[] = [];
  private readonly options: InstanceOptions;
  private readonly log: Logger;
  private readonly stopping = new AbortController();
  private ground: Groundwork | null = null;
  private spec: ComputeSpec | null = null;
  private postgres: PostgresProcess | null = null;
  private socketDir: string | null = null;
  private lease: LsnLease | null = null;
  private feedbackFile: FeedbackFile | null = null;
  private closing = false;
  private lost: StorageError | null = null;
  private up = false;
  /** Resolves when Postgres' WAL goes to the safekeepers, or never will. */
  private attaching: Promise<void> = Promise.resolve();

  constructor(options: InstanceOptions) {
    this.options = options;
    this.log = options.log;
  }

  /** Postgres runs and may commit. */
  get alive(): boolean {
    const { postgres } = this;
    return this.lost === null && !this.closing && postgres !== null && postgres.isOpen && postgres.exit === null;
  }

  /** It has answered queries. */
  get wasUp(): boolean {
    return this.up;
  }

  /** How to reach its Postgres as superuser; null before it is up. */
  get server(): ServerAddress | null {
    return this.alive ? (this.ground?.server ?? null) : null;
  }

  /** How writers are held back by a page server that lags; null before a primary runs. */
  get throttling(): Throttling | null {
    return this.feedbackFile?.throttling() ?? null;
  }

  get binDir(): string {
    return dirname(this.ground?.binary.path ?? '');
  }

  get commitLsn(): Lsn {
    return this.session?.runner.proposer.commitLsn ?? INVALID_LSN;
  }

  /** Gives up what `bringUp` or `reconfigure` is doing; they reject as `cancelled` with this reason. */
  cancel(reason: StorageError): void {
    this.stopping.abort(reason);
  }

  /** Resolves when queries are answered and the catalog is what the spec says. */
  async bringUp(spec: ComputeSpec): Promise<void> {
    try {
      await this.start(spec);
    } catch (error) {
      throw this.lost ?? error;
    }
    this.up = true;
  }

  private async start(spec: ComputeSpec): Promise<void> {
    const { signal } = this.stopping;
    this.spec = spec;
    const ground = await orAborted(this.prepareGround(spec), signal);
    this.ground = ground;
    reachStep('ground');
    if (ground.newest === null) await this.startStandby(ground);
    else await this.startPrimary(ground, ground.newest);
  }

  /** A server that does not write: no election, no walproposer, and nothing to apply. */
  private async startStandby(ground: Groundwork): Promise<void> {
    const { spec, facts, account } = ground;
    const { signal } = this.stopping;
    const { timings } = this.options;
    const { startLsn, lease } = await prepareStandby({ spec, facts, fetch: this.fetchOptions(spec, account) });
    this.lease = lease;
    this.startLsn = startLsn;
    const startedMs = performance.now();
    await orAborted(this.open(ground), signal);
    timings.startPostgresMs = performance.now() - startedMs;
  }

  private async startPrimary(ground: Groundwork, newest: BackupFetch): Promise<void> {
    const { signal } = this.stopping;
    this.session = this.openSession(ground, newest);
    this.startLsn = await this.session.prepare();
    reachStep('base-backup');
    const { leastLsn } = this.options;
    if (this.startLsn < leastLsn) {
      const [found, wanted] = [formatLsn(this.startLsn), formatLsn(leastLsn)];
      throw new StorageError('precondition', `these safekeepers have WAL to ${found} only; ${wanted} is committed`);
    }
    const { segSize } = ground.facts;
    const walDir = join(this.options.config.pgdata, 'pg_wal');
    this.session.runner.source.attachPostgres({ startLsn: this.startLsn, walDir, segSize });
    await orAborted(this.startPostgres(ground, this.session), signal);
    await this.configureCatalog(ground.server, ground.spec);
    reachStep('catalog');
  }

  /**
   * Makes the running Postgres what another spec of the same timeline says. Settings that need a new start are reported in
   * `pendingRestart`. Throws StorageError `invalid` when the server refuses a setting; then all settings stay as they were.
   */
  async reconfigure(spec: ComputeSpec): Promise<void> {
    const { ground, spec: before } = this;
    if (ground === null || before === null) throw new StorageError('internal', 'reconfigured before it was up');
    if (needsNewStart(before, spec)) throw new StorageError('internal', 'this change needs a new start');
    const { signal } = this.stopping;
    const { pgdata } = this.options.config;
    const { server, account } = ground;
    const conf = this.renderConf(spec, server);
    try {
      if (before.pageserverConnstring !== spec.pageserverConnstring || before.stripeBlocks !== spec.stripeBlocks) {
        await announceStorage({ pgdata, account, text: conf });
      }
      const waiting = await orAborted(applySettings({ server, pgdata, account, text: conf, log: this.log }), signal);
      this.pendingRestart = waiting ?? this.pendingRestart;
      if (spec.mode.kind === 'primary') await this.configureCatalog(server, spec);
    } catch (error) {
      throw this.lost ?? error;
    }
    this.spec = spec;
  }

  private async configureCatalog(server: ServerAddress, spec: ComputeSpec): Promise<void> {
    const beganMs = performance.now();
    await orAborted(applyCatalog(server, spec, this.log), this.stopping.signal);
    this.options.timings.configMs = performance.now() - beganMs;
  }

  private async prepareGround(spec: ComputeSpec): Promise<Groundwork> {
    const { config, early } = this.options;
    const { log } = this;
    const { signal } = this.stopping;
    const connstr = parseConnstr(config.connstr);
    const place = this.earlyOptions();
    const host = early?.facts ?? (await clearGround(place));
    const { binary, account } = host;
    const asking = retryUnavailable({ what: 'ask the page server for the timeline', log, signal }, () =>
      timelineFacts(spec.pageserverGrpcAddr, spec.pageserverTtid, signal),
    );
    asking.catch(() => undefined);
    this.socketDir = await makeSocketDir(config.pgdata, account);
    const port = Number(spec.settings.get('port') ?? connstr.port ?? DEFAULT_PORT);
    const server = { socketDir: this.socketDir, port, user: connstr.user ?? 'cloud_admin' };
    const conf = this.renderConf(spec, server);
    const isGoing = early !== null && (await canGoOn(early, conf, place));
    const begun = this.watch(isGoing ? early : startServer(place, host, { conf }));
    const facts = await asking;
    if (Math.floor(binary.version / 10_000) !== facts.pgMajor) {
      throw new StorageError(
        'invalid',
        `${binary.path} is version ${binary.version}, the timeline needs PostgreSQL ${facts.pgMajor}`,
      );
    }
    // Not before the facts, which the election waits for: a page server answers one after the other.
    const newest = spec.mode.kind === 'primary' ? new BackupFetch(this.fetchOptions(spec, account), INVALID_LSN) : null;
    const postgres = begun.segSize === facts.segSize ? begun.process : await this.beginAgain(begun, facts, conf);
    return { spec, facts, binary, account, server, postgres, newest };
  }

  private earlyOptions(): EarlyServerOptions {
    const { config, host } = this.options;
    return { pgdata: config.pgdata, host, log: this.log };
  }

  private watch(begun: EarlyServer): EarlyServer {
    const { process } = begun;
    this.postgres = process;
    void process.exited.then((exit) => {
      if (this.postgres !== process) return;
      const how = exit.signal === null ? `with code ${exit.code ?? -1}` : `by ${exit.signal}`;
      this.lose(new StorageError('internal', `Postgres ended unexpectedly ${how}: ${process.lastWords()}`));
    });
    reachStep('postgres-spawned');
    return begun;
  }

  private async beginAgain(begun: EarlyServer, { segSize }: TimelineFacts, conf: string): Promise<PostgresProcess> {
    this.log.info({ segSize }, 'Postgres is started anew for another size of WAL segments');
    this.postgres = null;
    await begun.process.stop('immediate');
    return this.watch(startServer(this.earlyOptions(), begun.facts, { conf, segSize })).process;
  }

  private fetchOptions(spec: ComputeSpec, account: Account | null): BackupFetchOptions {
    const { config, timings } = this.options;
    const { pageserverGrpcAddr: addr, pageserverTtid: ttid } = spec;
    const replica = spec.mode.kind !== 'primary';
    return {
      addr,
      ttid,
      replica,
      pgdata: config.pgdata,
      account,
      log: this.log,
      timings,
      signal: this.stopping.signal,
    };
  }

  private openSession(ground: Groundwork, newest: BackupFetch): StorageSession {
    const { spec, facts, account } = ground;
    const options = {
      spec,
      facts,
      pgVersion: ground.binary.version,
      fetch: this.fetchOptions(spec, account),
      walWindowBytes: this.options.config.walWindowBytes,
      log: this.log,
      timings: this.options.timings,
      onCommitted: (lsn: Lsn) => this.feed?.committed(lsn),
      onFeedback: (feedback: PageserverFeedback) => {
        this.feed?.applied(feedback.diskConsistentLsn);
        this.feedbackFile?.put(feedback);
      },
      onStandbyFeedback: (feedback: StandbyFeedback) => this.feed?.standbysNeed(feedback),
      onFenced: (message: string) => this.onFenced(message),
    };
    return new StorageSession(options, newest, this.stopping.signal);
  }

  private renderConf(spec: ComputeSpec, server: ServerAddress): string {
    const { text, skipped } = renderPostgresConf(spec, { socketDir: server.socketDir, port: server.port });
    if (skipped.length > 0) this.log.warn({ settings: skipped }, 'left out settings that a stock server does not know');
    return text;
  }

  private async startPostgres(ground: Groundwork, session: StorageSession): Promise<void> {
    const { account } = ground;
    const { pgdata } = this.options.config;
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
    if (!(await this.open(ground))) return;
    this.feedbackFile = FeedbackFile.open(pgdata);
    // The base backup came from it. Of its disk nothing is known yet.
    const unknown = { diskConsistentLsn: INVALID_LSN, remoteConsistentLsn: INVALID_LSN };
    this.feedbackFile.put({ lastReceivedLsn: this.startLsn, ...unknown });
    this.options.timings.startPostgresMs = performance.now() - startedMs;
    this.attaching = this.attach(ground, session, ground.postgres).catch((error: unknown) =>
      this.lose(asStorageError(error)),
    );
  }

  /** Beside the first queries: those that write wait for it with their commits. */
  private async attach(ground: Groundwork, session: StorageSession, postgres: PostgresProcess): Promise<void> {
    const feed = await CommitFeed.attach({
      server: ground.server,
      systemId: ground.facts.systemId,
      startLsn: this.startLsn,
      runner: session.runner,
      log: this.log,
      serverRuns: () => postgres.exit === null,
    });
    feed.onLatency = (latencyMs) => this.options.onCommitLatency(latencyMs);
    this.feed = feed;
    if (this.lost !== null) feed.close();
    reachStep('attached');
  }

  /** The data directory is filled. Resolves when connections are taken; false when they are not wanted any more. */
  private async open({ postgres, server }: Groundwork): Promise<boolean> {
    reachStep('configured');
    if (this.stopping.signal.aborted) return false;
    postgres.open();
    this.options.onOpened();
    await postgres.ready(this.options.config.startTimeoutMs);
    reachStep('postgres-ready');
    this.pgAddr = formatAddr('127.0.0.1', server.port);
    return true;
  }

  private onFenced(message: string): void {
    if (!this.closing) {
      this.lose(new StorageError('fenced', message));
      return;
    }
    // An orderly stop would wait in vain for its last WAL to be committed.
    this.log.warn(message);
    void this.postgres?.stop('immediate');
  }

  private lose(error: StorageError): void {
    if (this.lost !== null || this.closing) return;
    this.lost = error;
    this.feed?.close();
    this.stopping.abort(error);
    void this.postgres?.stop('immediate');
    this.options.onLost(error);
  }

  /** Ends everything at once: from here on no commit can return. */
  async stopAtOnce(): Promise<void> {
    this.closing = true;
    this.feed?.close();
    this.stopping.abort(new StorageError('cancelled', 'stopped'));
    if (this.postgres !== null) await this.postgres.stop('immediate');
    this.session?.close();
    await this.cleanUp();
  }

  /**
   * Stops Postgres with a shutdown checkpoint, and waits until the quorum has all its WAL. After stopTimeoutMs without a quorum it is
   * stopped the hard way: nothing acknowledged is lost, but `settled` is false.
   */
  async stop(): Promise<Stopped> {
    this.closing = true;
    this.stopping.abort(new StorageError('cancelled', 'the compute is told to stop'));
    // Stopped before, it would end with WAL that nobody has.
    await Promise.race([this.attaching, sleep(COMMIT_WAIT_MS, undefined, { ref: false })]);
    let settled = this.lost === null;
    if (this.postgres !== null) {
      const exit = await this.postgres.stop('fast', this.options.config.stopTimeoutMs);
      settled = exit.code === 0 && (await this.settle());
      if (settled && (await this.keepLastFiles())) settled = await this.settle();
      if (!settled) {
        const commitLsn = formatLsn(this.commitLsn);
        this.log.error({ commitLsn }, 'Postgres was stopped before a quorum had all its WAL');
      }
    }
    this.feed?.close();
    this.session?.close();
    await this.cleanUp();
    return { flushLsn: this.commitLsn, settled };
  }

  /** Appends what Postgres wrote to files after its last WAL. True when there is more WAL to commit now. */
  private async keepLastFiles(): Promise<boolean> {
    const { session, feed, log } = this;
    if (session === null || feed === null || session.runner.proposer.phase !== 'leading') return false;
    try {
      const wal = await lastWal({ pgdata: this.options.config.pgdata, endLsn: feed.receivedLsn, log });
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

  /** What is left when Postgres has ended. */
  private async cleanUp(): Promise<void> {
    this.lease?.close();
    this.feedbackFile?.close();
    if (this.socketDir !== null) await rm(this.socketDir, { recursive: true, force: true });
  }
}
