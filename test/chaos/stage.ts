/** The stack under test, its compute, and the faults done to it. Faults follow one another; pauses end by themselves. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GetStatusResponse } from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { sleep, TestStack, until } from '../harness/stack.js';
import { Control } from '../harness/control.js';
import { Network } from './network.js';
import { Rival } from './rival.js';
import { SAFEKEEPERS } from './schedule.js';
import type { Fault } from './schedule.js';

const SETTINGS = { shared_buffers: '8MB' };
const SERVICE_TIMEOUT_MS = 60_000;
/** How long two computes are watched that were started at once. */
const DUEL_MS = 2_500;
const RIVAL_MS = 1_000;
const ONE_LEFT_MS = 15_000;
/** By when a dead connection must have been noticed: far more than a keepalive takes, for a machine that is busy. */
const NOTICE_MS = 40_000;

export class Stage implements AsyncDisposable {
  readonly stack: TestStack;
  /** Where rows go that rivals shall commit; the first is null while none runs. */
  readonly rivals: (Rival | null)[] = [null, null];
  /** What faults brought to light that is wrong by itself. */
  readonly problems: string[] = [];
  readonly counts = new Map<string, number>();
  /** Computes that slept while another one took their timeline, and ended when they woke up. */
  fencedCount = 0;
  private readonly control: Control;
  private readonly network: Network;
  private mainUrl: string | null = null;
  private starting: Promise<void> | null = null;
  private readonly paused = new Map<number, NodeJS.Timeout>();
  private rivalCount = 0;

  private constructor(stack: TestStack, control: Control, network: Network) {
    this.stack = stack;
    this.control = control;
    this.network = network;
  }

  static async open(): Promise<Stage> {
    const network = await Network.open(SAFEKEEPERS);
    const stack = await TestStack.start({ safekeepers: SAFEKEEPERS, init: network.initOptions }).catch(
      async (error: unknown) => {
        await network[Symbol.asyncDispose]();
        throw error;
      },
    );
    stack.expectFaults();
    const stage = new Stage(stack, await Control.open(stack.repoDir), network);
    try {
      await network.attach(stack.repoDir);
      stage.mainUrl = await stage.stack.startCompute('main', { settings: SETTINGS });
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Of the managed compute; it may be down. Null when sessions shall keep away. */
  get url(): string | null {
    return this.mainUrl;
  }

  async apply(fault: Fault): Promise<void> {
    this.counts.set(fault.kind, (this.counts.get(fault.kind) ?? 0) + 1);
    switch (fault.kind) {
      case 'kill-safekeepers':
        return this.signal(fault.ids.map((id) => `safekeeper-${id}`));
      case 'pause-safekeepers':
        return this.signal(
          fault.ids.map((id) => `safekeeper-${id}`),
          fault.forMs,
        );
      case 'kill-pageserver':
        return this.signal(['pageserver']);
      case 'pause-pageserver':
        return this.signal(['pageserver'], fault.forMs);
      case 'kill-broker':
        return this.signal(['storage-broker']);
      case 'kill-compute':
        return this.signal(['main']);
      case 'pause-compute':
        return this.signal(['main'], fault.forMs);
      case 'kill-postgres':
        return this.killPostgres();
      case 'replace-compute':
        await this.stopCompute('immediate');
        return this.startCompute();
      case 'restart-compute':
        await this.stopCompute('fast');
        return this.startCompute();
      case 'take-over':
        return this.takeOver(fault.wakeAfterMs);
      case 'duel':
        return this.duel(fault.gapMs);
      case 'cut-network':
      case 'silence-network':
      case 'one-way-network':
      case 'slow-network':
        return this.network.disturb(fault);
    }
  }

  /** SIGKILL, or SIGSTOP for a time. */
  private async signal(names: readonly string[], pauseMs?: number): Promise<void> {
    const status = await this.control.status();
    for (const name of names) {
      const pid = pidOf(status, name);
      if (pid === 0) continue;
      if (pauseMs === undefined) kill(pid, 'SIGKILL');
      else this.pause(pid, pauseMs);
    }
  }

  private pause(pid: number, forMs: number): void {
    clearTimeout(this.paused.get(pid));
    kill(pid, 'SIGSTOP');
    this.paused.set(
      pid,
      setTimeout(() => this.resume(pid), forMs),
    );
  }

  private resume(pid: number): void {
    clearTimeout(this.paused.get(pid));
    this.paused.delete(pid);
    kill(pid, 'SIGCONT');
  }

  private async killPostgres(): Promise<void> {
    const file = join(this.stack.repoDir, 'computes/main/pgdata/postmaster.pid');
    const pid = Number((await readFile(file, 'utf8').catch(() => '')).split('\n')[0]);
    if (Number.isSafeInteger(pid) && pid > 1) kill(pid, 'SIGKILL');
  }

  private async stopCompute(mode: 'fast' | 'immediate'): Promise<void> {
    await this.starting;
    await this.control.stopCompute('main', mode === 'immediate');
  }

  /** Starts the compute if it does not run. Does not wait for it: without a quorum a start takes as long as that lasts. */
  async startCompute(): Promise<void> {
    this.starting ??= this.control
      .startCompute('main')
      .then((url) => {
        this.mainUrl = url;
      })
      .catch(() => undefined)
      .finally(() => {
        this.starting = null;
      });
  }

  /** Starts the compute again when it was fenced or gave up. */
  async keepUp(): Promise<void> {
    const { computes } = await this.control.status();
    if (computes.some(({ state }) => state === 'failed' || state === 'stopped')) await this.startCompute();
  }

  private async takeOver(wakeAfterMs: number): Promise<void> {
    await this.starting;
    const status = await this.control.status();
    const pid = pidOf(status, 'main');
    if (pid === 0) return;
    this.pause(pid, SERVICE_TIMEOUT_MS);
    const rival = await this.newRival(status, 0);
    const isReady = await rival.start();
    await sleep(wakeAfterMs);
    this.resume(pid);
    await sleep(RIVAL_MS);
    if (isReady) await this.expectOneLeft(pid, rival);
    await this.dismissRivals();
    await this.startCompute();
  }

  /**
   * The compute that slept finds out when it next sends WAL. One that slept in the middle of its start has not asked for votes yet: it
   * may win the timeline back, and then it is the other one that ends.
   */
  private async expectOneLeft(pid: number, rival: Rival): Promise<void> {
    const isSuperseded = async (): Promise<boolean> => pidOf(await this.control.status(), 'main') !== pid;
    await this.expect('a compute and the one that took its timeline over do not both run', async () => {
      if (rival.url === null) return true;
      if (!(await isSuperseded())) return false;
      this.fencedCount += 1;
      return true;
    });
  }

  /** A process stays for two seconds after it was fenced, for those who want to read its status. */
  private async expect(what: string, check: () => Promise<boolean>): Promise<void> {
    await until(what, ONE_LEFT_MS, check).catch((error: Error) => this.problems.push(error.message));
  }

  private async duel(gapMs: number): Promise<void> {
    await this.stopCompute('immediate');
    const status = await this.control.status();
    const [first, second] = [await this.newRival(status, 0), await this.newRival(status, 1)];
    const starts = [first.start(), sleep(gapMs).then(() => second.start())];
    await Promise.any(
      starts.map(async (start) => ((await start) ? true : Promise.reject(new Error('not started')))),
    ).catch(() => this.problems.push(`of two computes none started: ${first.end}; ${second.end}`));
    await sleep(DUEL_MS);
    const isOneLeft = async (): Promise<boolean> => first.url === null || second.url === null;
    await this.expect('two computes do not both run', isOneLeft);
    await this.dismissRivals();
    await Promise.all(starts);
    await this.startCompute();
  }

  private async newRival(status: GetStatusResponse, slot: number): Promise<Rival> {
    const rival = await Rival.prepare(this.stack, `rival-${++this.rivalCount}`, status);
    this.rivals[slot] = rival;
    return rival;
  }

  private async dismissRivals(): Promise<void> {
    for (const [slot, rival] of this.rivals.entries()) {
      this.rivals[slot] = null;
      await rival?.kill();
    }
  }

  /** Ends all disturbances of the network, with their traces. */
  healNetwork(): void {
    this.network.heal();
  }

  /** Connections that have been dead for too long without anybody's notice. */
  get deadConnections(): string[] {
    return this.network.deadSince(NOTICE_MS);
  }

  /** Ends all pauses; everything runs again when it resolves. */
  async heal(): Promise<void> {
    this.network.heal();
    for (const pid of this.paused.keys()) this.resume(pid);
    await this.dismissRivals();
    await this.starting;
    await until('all services to run', SERVICE_TIMEOUT_MS, async () => {
      const { services } = await this.control.status();
      return services.every(({ state }) => state === 'running');
    });
    await this.restart('fast');
  }

  /** A compute on an empty directory. */
  async restart(mode: 'fast' | 'immediate'): Promise<string> {
    await this.stopCompute(mode);
    this.mainUrl = await this.control.startCompute('main');
    return this.mainUrl;
  }

  async stop(): Promise<void> {
    await this.stopCompute('fast');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.paused.keys()) this.resume(pid);
    await this.dismissRivals();
    await this.starting;
    this.control[Symbol.dispose]();
    this.network.heal();
    try {
      await this.stack[Symbol.asyncDispose]();
    } finally {
      await this.network[Symbol.asyncDispose]();
    }
  }
}

function pidOf(status: GetStatusResponse, name: string): number {
  return [...status.services, ...status.computes].find((entry) => entry.name === name)?.pid ?? 0;
}

/** It may have ended already. */
function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH')
      throw new StorageError('internal', `cannot signal ${pid}`, { cause: error });
  }
}
