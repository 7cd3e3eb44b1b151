/**
 * One compute's life: the states of core/state-machine.ts, and what is done in each. The work on Postgres is instance.ts's.
 *
 * A start or a change that goes wrong ends in `failed`; the process exits after `lingerMs` unless somebody asks for a refresh before, or
 * Postgres still serves. When Postgres is lost while running (it died, or a newer compute took the timeline over) nothing can be done in
 * place: the compute goes through `termination_pending_immediate` with the reason as its error, and exits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asStorageError, errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { formatTtid } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ComputeConfig } from './config.js';
import { checkSameCompute, needsNewStart } from './core/spec-change.js';
import { parseSpec } from './core/spec.js';
import type { ComputeSpec } from './core/spec.js';
import { canTake, FIRST_PHASE, nextPhase } from './core/state-machine.js';
import type { ComputeEvent, ComputePhase } from './core/state-machine.js';
import { noTimings } from './core/status.js';
import type { ComputeStatus } from './core/status.js';
import { Instance } from './instance.js';
import { ActivityMonitor } from './io/activity-monitor.js';
import type { ServerAddress } from './io/catalog.js';
import { serverInAdvance } from './io/early-server.js';
import type { EarlyServer } from './io/early-server.js';
import type { Host } from './io/host.js';
import { retryUnavailable } from './io/retry.js';
import type { SpecSource } from './io/spec-source.js';

/** The exit code of a compute that lost its timeline to a newer one: starting it again would only fight. */
export const EXIT_FENCED = 3;
const EXIT_FAILED = 1;

export type StopMode = 'fast' | 'immediate';

export interface ComputeParts {
  readonly config: ComputeConfig;
  readonly log: Logger;
  readonly host: Host;
  /** When this process became a compute, milliseconds since its start. */
  readonly bornMs: number;
}

export class Compute {
  /** Exit code, once the process has no reason to live any more. */
  readonly ended: Promise<number>;
  readonly timings = noTimings();
  /** Resolves when the start has nothing to do but wait for Postgres: other work hinders it least then. */
  readonly idles: Promise<void>;
  /** Called with the milliseconds that some WAL took from Postgres to its commit. */
  onCommitLatency: ((latencyMs: number) => void) | null = null;
  instance: Instance | null = null;
  private readonly config: ComputeConfig;
  private readonly log: Logger;
  private readonly source: SpecSource | null;
  private readonly monitor: ActivityMonitor;
  private readonly host: Host;
  private readonly bornMs: number;
  private readonly end: (exitCode: number) => void;
  private readonly idle: () => void;
  private readonly calling = new AbortController();
  /** Aborted by a signal: waits for somebody to look are cut short. */
  private readonly hurry = new AbortController();
  private phase: ComputePhase = FIRST_PHASE;
  private error: StorageError | null = null;
  private spec: ComputeSpec | null = null;
  /** Where all WAL ends that an earlier instance of this process committed. */
  private leastLsn: Lsn = INVALID_LSN;
  private termination: Promise<Lsn> | null = null;
  private promotion: Promise<Lsn> | null = null;
  private exitCode = 0;
  /** A server that waits for what it will be; taken by the first start. */
  private early: Promise<EarlyServer | null> = Promise.resolve(null);
  /** Storage ends together with us: there is nobody to wait for. */
  private isOrphan = false;
  /** Wakes the pause before a refresh is tried again. */
  private wake: () => void = () => undefined;

  /** `source`: null = somebody brings a spec. */
  constructor({ config, log, host, bornMs }: ComputeParts, source: SpecSource | null) {
    this.config = config;
    this.log = log;
    this.host = host;
    this.bornMs = bornMs;
    this.source = source;
    this.monitor = new ActivityMonitor(log);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.end = resolve;
    const idling = Promise.withResolvers<void>();
    this.idles = idling.promise;
    this.idle = idling.resolve;
  }

  status(): ComputeStatus {
    const proposer = this.instance?.session?.runner.proposer;
    return {
      phase: this.phase,
      error: this.error === null ? '' : errorText(this.error),
      ttid: this.spec?.ttid ?? null,
      startLsn: this.instance?.startLsn ?? INVALID_LSN,
      commitLsn: proposer?.commitLsn ?? INVALID_LSN,
      term: proposer !== undefined && proposer.startLsn !== INVALID_LSN ? proposer.term : 0,
      timings: this.timings,
      connstr: this.config.connstr,
      startTimeMs: Date.now() - (performance.now() - this.bornMs),
      lastActiveMs: this.monitor.lastActiveMs,
      pendingRestart: this.instance?.pendingRestart ?? [],
    };
  }

  /** Aborted when it has something to do, and does not wait for a spec (any more). */
  get called(): AbortSignal {
    return this.calling.signal;
  }

  /** How to reach Postgres as superuser. Throws StorageError `precondition` unless this compute is running. */
  server(): ServerAddress {
    const server = this.instance?.server ?? null;
    if (server === null || this.phase !== 'running') {
      throw new StorageError('precondition', `the compute is not running, its state is ${this.phase}`);
    }
    return server;
  }

  get isCacheFixed(): boolean {
    return this.spec?.isCacheFixed ?? false;
  }

  /** Where the programs of this Postgres lie. Throws as `server`. */
  binDir(): string {
    this.server();
    return this.instance?.binDir ?? '';
  }

  /** 'running': queries are answered; 'empty': waits for a spec; 'ended': it failed or was told to stop, and `ended` says more. */
  async start(): Promise<'running' | 'empty' | 'ended'> {
    const first = await this.firstSpec();
    if (first === null) return this.phase === 'empty' && !this.hurry.signal.aborted ? 'empty' : 'ended';
    if (!canTake(this.phase, 'start')) return 'ended';
    this.timings.waitForSpecMs = performance.now() - this.bornMs;
    this.step('start');
    try {
      if (first instanceof StorageError) throw first;
      await this.apply(this.parse(first));
    } catch (error) {
      await this.fail(error);
      return 'ended';
    }
    this.step('ready');
    this.announceRunning(this.bornMs);
    return 'running';
  }

  /** The spec at hand; null: none, wait for /configure. What is wrong with it is returned, to be told as a failed start. */
  private async firstSpec(): Promise<string | StorageError | null> {
    const { source, log } = this;
    const { signal } = this.hurry;
    if (source === null) {
      log.info('waiting for a spec');
      this.early = serverInAdvance({ pgdata: this.config.pgdata, host: this.host, log });
      return null;
    }
    try {
      return await retryUnavailable({ what: 'get the spec', log, signal }, () => source.read(signal));
    } catch (error) {
      return errorKind(error) === 'cancelled' ? null : asStorageError(error);
    }
  }

  private announceRunning(sinceMs: number): void {
    this.timings.totalMs = performance.now() - sinceMs;
    const { syncSafekeepersMs, basebackupMs, startPostgresMs, configMs, totalMs } = this.timings;
    const rounded = { syncSafekeepersMs, basebackupMs, startPostgresMs, configMs, totalMs };
    this.log.info({ startLsn: formatLsn(this.instance?.startLsn ?? INVALID_LSN), ...rounded }, 'running');
  }

  /** Also behind an await, where the state may be another than the line before said. */
  private isIn(phase: ComputePhase): boolean {
    return this.phase === phase;
  }

  private step(event: ComputeEvent): void {
    const from = this.phase;
    this.phase = nextPhase(from, event);
    this.log.debug({ from, event, to: this.phase }, 'state changed');
    this.calling.abort();
    if (this.phase === 'running') {
      this.error = null;
      this.monitor.watch(this.instance?.server ?? null);
    }
  }

  private parse(text: string): ComputeSpec {
    return parseSpec(text, this.config.pageserverGrpc ?? null);
  }

  /** Makes this compute what the spec says, with a new Postgres when there is none, or when the change asks for one. */
  private async apply(spec: ComputeSpec): Promise<void> {
    let instance = this.instance;
    if (instance?.alive === true) checkSameCompute(this.spec, spec);
    else if (this.spec !== null && formatTtid(this.spec.ttid) !== formatTtid(spec.ttid)) this.leastLsn = INVALID_LSN;
    if (instance?.alive === true && this.spec !== null && needsNewStart(this.spec, spec)) {
      this.log.info('Postgres is started anew');
      const { flushLsn, settled } = await instance.stop();
      if (!settled) throw new StorageError('unavailable', 'Postgres could not be stopped with all its WAL committed');
      this.leastLsn = flushLsn;
      instance = null;
    }
    if (instance?.alive === true) {
      await instance.reconfigure(spec);
      this.spec = spec;
      return;
    }
    await this.instance?.stopAtOnce();
    this.spec = spec;
    const { config, host, log, timings, leastLsn } = this;
    const early = await this.early;
    this.early = Promise.resolve(null);
    const created: Instance = new Instance({
      config,
      host,
      early,
      log,
      timings,
      leastLsn,
      onOpened: () => this.idle(),
      onLost: (error) => this.onLost(created, error),
      onCommitLatency: (latencyMs) => this.onCommitLatency?.(latencyMs),
    });
    this.instance = created;
    // It was told to stop before there was anything to cancel.
    if (this.hurry.signal.aborted) created.cancel(new StorageError('cancelled', 'the compute is told to stop'));
    await created.bringUp(spec);
  }

  /**
   * A spec from outside, JSON. Throws StorageError at once when the spec is wrong (`invalid`) or the state does not allow it
   * (`precondition`); nothing has changed then. The promise resolves when running, or rejects with why it failed.
   */
  configure(text: string): { readonly done: Promise<void> } {
    if (!canTake(this.phase, 'configure')) nextPhase(this.phase, 'configure');
    const spec = this.parse(text);
    if (this.instance?.alive === true) checkSameCompute(this.spec, spec);
    this.step('configure');
    const done = this.runConfiguration(spec);
    done.catch(() => undefined);
    return { done };
  }

  private async runConfiguration(spec: ComputeSpec): Promise<void> {
    const sinceMs = performance.now();
    this.step('take');
    if (this.instance === null) this.timings.waitForSpecMs = sinceMs - this.bornMs;
    try {
      await this.apply(spec);
    } catch (error) {
      await this.fail(error);
      throw error;
    }
    this.step('ready');
    this.announceRunning(sinceMs);
  }

  /**
   * Makes a running replica the primary, at the same address: its server is stopped, and a primary started as any other is. The election
   * ends the old primary, if there still is one, and finds all that it has committed. Resolves with where the new one begins. Of a
   * primary: with where that began. Throws StorageError `precondition` for anything else.
   */
  promote(): Promise<Lsn> {
    this.promotion ??= this.runPromotion().finally(() => {
      this.promotion = null;
    });
    return this.promotion;
  }

  private async runPromotion(): Promise<Lsn> {
    const { spec } = this;
    if (this.phase !== 'running' || spec === null || spec.mode.kind === 'static') {
      throw new StorageError('precondition', 'only a running replica can be promoted');
    }
    if (spec.mode.kind === 'replica') {
      this.log.info('promoting this replica');
      this.step('configure');
      await this.runConfiguration({ ...spec, mode: { kind: 'primary' } });
    }
    return this.instance?.startLsn ?? INVALID_LSN;
  }

  /** Has a new spec pulled and applied; goes on in the background. Throws StorageError `precondition` where that is not possible. */
  refresh(): void {
    if (this.source === null)
      throw new StorageError('precondition', 'there is nowhere to pull a spec from: use /configure');
    if (this.phase === 'init' || this.phase === 'refresh_configuration') return;
    if (this.phase === 'refresh_configuration_pending') return this.wake();
    this.step('refresh');
    this.wake();
    void this.runRefresh(this.source);
  }

  private async runRefresh(source: SpecSource): Promise<void> {
    while (this.isIn('refresh_configuration_pending')) {
      this.step('take');
      try {
        const text = await source.read(this.hurry.signal);
        if (text === null) return this.releaseProcess('the control plane has no spec for this compute any more');
        await this.apply(this.parse(text));
        if (!this.isIn('refresh_configuration')) return;
        this.step('ready');
        this.log.info('configuration refreshed');
        return;
      } catch (error) {
        if (!this.isIn('refresh_configuration')) return;
        this.error = asStorageError(error);
        this.step('retry');
        this.log.warn(
          { reason: errorText(error), waitMs: this.config.refreshRetryMs },
          'could not refresh the configuration',
        );
        if (errorKind(error) === 'fenced') return this.end(EXIT_FENCED);
      }
      await this.pause(this.config.refreshRetryMs);
      if (this.hurry.signal.aborted) return;
    }
  }

  /** Nobody wants this compute any more: ends in good order, with an exit code that tells it was not asked to. */
  private releaseProcess(reason: string): void {
    this.log.warn({ reason }, 'ending');
    this.exitCode = EXIT_FAILED;
    void this.shutDown();
  }

  /** Cut short by a signal or `wake`. */
  private async pause(ms: number): Promise<void> {
    const cut = new AbortController();
    this.wake = () => cut.abort();
    await sleep(ms, undefined, { signal: AbortSignal.any([cut.signal, this.hurry.signal]) }).catch(() => undefined);
  }

  private onLost(instance: Instance, error: StorageError): void {
    // A start or a change that is under way rejects with this error, and fails.
    if (instance !== this.instance || !instance.wasUp || this.phase.startsWith('configuration')) return;
    this.log.error({ err: error, reason: errorText(error) }, 'compute failed');
    this.exitCode = exitCodeOf(error);
    if (this.phase === 'failed') {
      void instance.stopAtOnce().then(() => this.end(this.exitCode));
      return;
    }
    this.giveUpRefresh();
    if (!canTake(this.phase, 'terminate-immediate')) return;
    void this.beginTermination('immediate');
    this.error = error;
  }

  /** A refresh under way is dropped: Postgres is as the last spec wanted it, which is to be running. */
  private giveUpRefresh(): void {
    if (this.phase === 'refresh_configuration_pending') this.step('take');
    if (this.phase === 'refresh_configuration') this.step('ready');
  }

  private async fail(error: unknown): Promise<void> {
    const told = this.hurry.signal.aborted;
    this.error = asStorageError(error);
    if (canTake(this.phase, 'fail')) this.step('fail');
    if (!told) this.log.error({ err: error, reason: errorText(error) }, 'compute failed');
    if (this.instance?.alive === true && !told) return;
    if (this.instance?.alive === true) await this.instance.stop();
    else await this.instance?.stopAtOnce();
    await this.lingerInFailure(told ? this.exitCode : exitCodeOf(error));
  }

  /** The status stays readable, and a refresh can still bring this compute to life. */
  private async lingerInFailure(exitCode: number): Promise<void> {
    const lingers = this.pause(this.config.lingerMs);
    void lingers.then(() => {
      if (this.phase === 'failed') this.end(exitCode);
    });
  }

  /**
   * Ends the compute and, in its own time, the process. Resolves with the position where committed WAL ends as soon as Postgres has
   * ended; INVALID_LSN when none was ever written. Throws StorageError `precondition` unless it is empty or running.
   */
  async terminate(mode: StopMode): Promise<Lsn> {
    return this.termination ?? this.beginTermination(mode);
  }

  private beginTermination(mode: StopMode): Promise<Lsn> {
    this.step(mode === 'fast' ? 'terminate-fast' : 'terminate-immediate');
    this.termination = this.runTermination(mode);
    return this.termination;
  }

  private async runTermination(mode: StopMode): Promise<Lsn> {
    this.log.info({ mode }, 'terminating');
    this.monitor.close();
    await (await this.early)?.process.stop('immediate');
    const instance = this.instance;
    let flushLsn = instance?.commitLsn ?? INVALID_LSN;
    if (instance?.alive === true && !this.isOrphan) {
      const stopped = await instance.stop();
      flushLsn = stopped.flushLsn;
      if (!stopped.settled) this.exitCode = EXIT_FAILED;
    } else {
      await instance?.stopAtOnce();
    }
    this.log.info({ flushLsn: formatLsn(flushLsn) }, 'Postgres has ended');
    void this.finish(mode);
    return flushLsn;
  }

  private async finish(mode: StopMode): Promise<void> {
    if (mode === 'fast') await this.pause(this.config.terminateDelayMs);
    this.step('ended');
    this.log.info('terminated');
    this.end(this.exitCode);
  }

  /**
   * The supervisor died, and the safekeepers that it supervised end at the same moment: an orderly stop would wait for a quorum until its
   * limit, and the next supervisor with it. Nothing acknowledged is lost; to be followed by shutDown().
   */
  orphan(): void {
    this.isOrphan = true;
    // Cuts an orderly stop short that has begun.
    if (this.termination !== null) void this.instance?.stopAtOnce();
  }

  /** For signals: ends in good order whatever the state, without waiting for anybody to look. Resolves with the exit code. */
  async shutDown(): Promise<number> {
    this.hurry.abort(new StorageError('cancelled', 'the compute is told to stop'));
    if (this.termination !== null || this.phase === 'terminated') return this.ended;
    const { instance } = this;
    if (instance?.alive === true && this.phase.startsWith('refresh')) this.giveUpRefresh();
    if (canTake(this.phase, 'terminate-immediate')) {
      await this.beginTermination('immediate');
      return this.ended;
    }
    if (this.phase === 'failed' && instance?.alive === true) {
      const { settled } = await instance.stop();
      this.end(settled ? this.exitCode : EXIT_FAILED);
    } else if (this.phase.startsWith('refresh')) {
      await instance?.stopAtOnce();
      this.end(this.exitCode);
    } else {
      // A start or a change is under way: it gives up and fails, and the failure ends the process.
      instance?.cancel(new StorageError('cancelled', 'the compute is told to stop'));
    }
    return this.ended;
  }
}

function exitCodeOf(error: unknown): number {
  let at: unknown = error;
  while (errorKind(at) === 'cancelled' && at instanceof Error && at.cause !== undefined) at = at.cause;
  return errorKind(at) === 'fenced' ? EXIT_FENCED : EXIT_FAILED;
}
