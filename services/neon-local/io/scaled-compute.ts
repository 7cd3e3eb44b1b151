/**
 * One compute that is scaled: its control group, the connection to its vm-monitor, what it was seen to use. Grows: first the limits, then
 * the monitor is told. Shrinks: first the monitor is asked, which makes the file cache smaller, then the limits.
 *
 * Where control groups cannot be written, the file cache follows the size, and nothing is limited.
 */
import { errorText } from '#shared/core/errors.js';
import { ControlGroup } from '#shared/io/control-group.js';
import type { Logger } from '#shared/runtime/log.js';
import * as core from '../core/autoscaling.js';
import type { Bounds, Metrics, Scaling } from '../core/autoscaling.js';
import type { Resources } from '../core/monitor-protocol.js';
import { MonitorClient } from './monitor-client.js';
import { busyCount, postgresPids, residentBytes } from './postgres-processes.js';
import { workingSetPages } from './working-set.js';

const WORKING_SET_EVERY_MS = 15_000;

export interface ScaledRuntime {
  /** Of compute_ctl. */
  readonly pid: number;
  readonly pgPort: number;
  readonly pgdata: string;
  readonly monitorAddr: string;
}

export interface ScaledComputeOptions {
  readonly name: string;
  readonly group: string;
  /** Of the hierarchy of control groups; default: the kernel's. */
  readonly groupRoot?: string;
  readonly bounds: Bounds;
  /** Load is averaged over this time. */
  readonly windowMs: number;
  readonly log: Logger;
}

function resources(steps: number): Resources {
  return { cpu: steps * core.STEP_CPUS, mem: steps * core.STEP_BYTES };
}

export class ScaledCompute {
  private readonly options: ScaledComputeOptions;
  private scaling: Scaling;
  /** Undefined: not tried yet; null: control groups cannot be written. */
  private group: ControlGroup | null | undefined;
  private client: MonitorClient | null = null;
  private monitorAddr = '';
  private load = 0;
  private lookedAtMs = 0;
  private pids: readonly number[] = [];
  private pages: { readonly values: readonly number[] | null; readonly atMs: number } | null = null;
  private work: Promise<void> = Promise.resolve();
  private isClosed = false;

  constructor(options: ScaledComputeOptions) {
    this.options = options;
    this.scaling = core.started(options.bounds);
  }

  get cu(): number {
    return this.scaling.steps / core.STEPS_PER_CU;
  }

  /** Counts what runs; cheap, once a second. */
  async look(runtime: ScaledRuntime): Promise<void> {
    this.pids = await postgresPids(runtime.pgdata, runtime.pid);
    const nowMs = performance.now();
    const passedMs = this.lookedAtMs === 0 ? 0 : nowMs - this.lookedAtMs;
    this.lookedAtMs = nowMs;
    this.load = core.averageLoad(this.load, await busyCount(this.pids), passedMs, this.options.windowMs);
  }

  /** Decides, and does it. One at a time. Never throws: what failed is tried again the next time. */
  decide(runtime: ScaledRuntime, bounds: Bounds): Promise<void> {
    this.work = this.work
      .then(async () => {
        if (this.isClosed) return;
        await this.hold();
        await this.attach(runtime);
        const metrics = await this.measure(runtime);
        const action = core.nextSize(this.scaling, metrics, bounds, performance.now());
        if (action.kind === 'grow') await this.grow(action.steps, metrics);
        else if (action.kind === 'shrink') await this.shrink(action.steps);
        else await this.client?.checkHealth();
      })
      .catch((error: unknown) => {
        const { name, log } = this.options;
        log.info({ compute: name, reason: errorText(error) }, 'could not scale a compute, will try again');
      });
    return this.work;
  }

  /** Postgres is in the group, also after it was started anew; what it forks is, too. */
  private async hold(): Promise<void> {
    const { name, group, groupRoot, log } = this.options;
    if (this.group === undefined) {
      this.group = await ControlGroup.make(group, groupRoot).catch((error: unknown) => {
        log.warn(
          { compute: name, reason: errorText(error) },
          'control groups cannot be written: only the size of the file cache follows the size of the compute',
        );
        return null;
      });
      if (this.group) await this.limit(this.scaling.steps);
    }
    if (!this.group) return;
    const held = new Set(await this.group.pids());
    for (const pid of this.pids) if (!held.has(pid)) await this.group.add(pid);
  }

  private async attach(runtime: ScaledRuntime): Promise<void> {
    if (this.client?.isOpen === true && this.monitorAddr === runtime.monitorAddr) return;
    this.client?.close();
    this.client = null;
    this.monitorAddr = runtime.monitorAddr;
    this.client = await MonitorClient.connect(runtime.monitorAddr, () => {
      this.options.log.info({ compute: this.options.name }, 'the vm-monitor asks for memory');
      this.scaling = core.asked(this.scaling, performance.now());
    });
    await this.client.upscaled(resources(this.scaling.steps));
  }

  private async measure(runtime: ScaledRuntime): Promise<Metrics> {
    const nowMs = performance.now();
    if (this.pages === null || nowMs - this.pages.atMs >= WORKING_SET_EVERY_MS) {
      this.pages = { values: await workingSetPages(runtime.pgPort).catch(() => null), atMs: nowMs };
    }
    const isUp = this.pids.length > 0;
    const group = this.group ?? null;
    return {
      load: isUp ? this.load : null,
      usedBytes: isUp ? await (group === null ? residentBytes(this.pids) : group.usedBytes()) : null,
      cachedBytes: group === null ? null : await group.cachedBytes(),
      workingSetPages: this.pages.values,
    };
  }

  private async limit(steps: number): Promise<void> {
    const { cpu: cpus, mem: memoryBytes } = resources(steps);
    await this.group?.setLimits({ cpus, memoryBytes });
  }

  private async grow(steps: number, metrics: Metrics): Promise<void> {
    const { name, log } = this.options;
    const fromCu = this.cu;
    await this.limit(steps);
    this.scaling = core.resized(this.scaling, steps);
    const { load, usedBytes } = metrics;
    log.info({ compute: name, fromCu, toCu: this.cu, load, usedBytes }, 'compute grew');
    await this.client?.upscaled(resources(steps));
  }

  private async shrink(steps: number): Promise<void> {
    const { name, log } = this.options;
    if (this.client === null) return;
    const fromCu = this.cu;
    const refusal = await this.client.downscale(resources(steps));
    if (refusal !== null) {
      log.info({ compute: name, fromCu, reason: refusal }, 'the vm-monitor keeps the compute from shrinking');
      this.scaling = core.refused(this.scaling, steps, performance.now());
      return;
    }
    try {
      await this.limit(steps);
    } catch (error) {
      this.scaling = core.refused(this.scaling, steps, performance.now());
      await this.client.upscaled(resources(this.scaling.steps));
      throw error;
    }
    this.scaling = core.resized(this.scaling, steps);
    log.info({ compute: name, fromCu, toCu: this.cu }, 'compute shrank');
  }

  /** When the compute has ended. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.client?.close();
    await this.work;
    await this.group?.remove().catch((error: unknown) => {
      const { name, log } = this.options;
      log.warn({ compute: name, reason: errorText(error) }, 'could not remove a control group');
    });
  }
}
