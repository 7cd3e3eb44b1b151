/** The autoscaler-agent of this stack: looks after all computes that run and have bounds. */
import { createHash } from 'node:crypto';
import { totalmem } from 'node:os';
import { removeGroupsBelow } from '#shared/io/control-group.js';
import type { Logger } from '#shared/runtime/log.js';
import { boundsOf } from '../core/autoscaling.js';
import type { ComputeEntry } from '../core/catalog-schema.js';
import { ScaledCompute } from './scaled-compute.js';
import type { ScaledRuntime } from './scaled-compute.js';

const LOOK_EVERY_MS = 1_000;

export interface AutoscalerTiming {
  /** How often it is decided. */
  readonly periodMs: number;
  /** Load is averaged over this time. */
  readonly windowMs: number;
}

export const USUAL_TIMING: AutoscalerTiming = { periodMs: 5_000, windowMs: 60_000 };

export interface AutoscalerOptions extends AutoscalerTiming {
  readonly log: Logger;
  /** See groupOf(). */
  readonly groupsBelow: string;
  /** Computes that have bounds, and run now. */
  readonly running: () => readonly { readonly entry: ComputeEntry; readonly runtime: ScaledRuntime }[];
}

/** Control groups of a stack lie below one of its own. */
export function groupsBelow(repoPath: string): string {
  return `neon-local-${createHash('sha256').update(repoPath).digest('hex').slice(0, 8)}`;
}

export class Autoscaler {
  private readonly options: AutoscalerOptions;
  private readonly computes = new Map<string, ScaledCompute>();
  private timer: NodeJS.Timeout | null = null;
  private looking: Promise<void> = Promise.resolve();
  private decidedAtMs = -Infinity;
  private isClosed = false;

  private constructor(options: AutoscalerOptions) {
    this.options = options;
  }

  /** Groups that a killed daemon left are removed first. */
  static async start(options: AutoscalerOptions): Promise<Autoscaler> {
    await removeGroupsBelow(options.groupsBelow);
    const autoscaler = new Autoscaler(options);
    autoscaler.schedule();
    return autoscaler;
  }

  /** 0: not scaled, or not yet. */
  currentCu(name: string): number {
    return this.computes.get(name)?.cu ?? 0;
  }

  private schedule(): void {
    this.timer = setTimeout(
      () => {
        this.looking = this.look().finally(() => {
          if (!this.isClosed) this.schedule();
        });
      },
      Math.min(LOOK_EVERY_MS, this.options.periodMs),
    );
  }

  private async look(): Promise<void> {
    const { groupsBelow: below, log, periodMs, running, windowMs } = this.options;
    const found = running();
    const names = new Set(found.map(({ entry }) => entry.name));
    for (const [name, compute] of this.computes) {
      if (names.has(name)) continue;
      this.computes.delete(name);
      await compute.close();
    }
    const isTime = performance.now() - this.decidedAtMs >= periodMs;
    if (isTime) this.decidedAtMs = performance.now();
    for (const { entry, runtime } of found) {
      const { name } = entry;
      const bounds = boundsOf({ min: entry.minCu, max: entry.maxCu }, totalmem());
      const known = this.computes.get(name);
      const compute = known ?? new ScaledCompute({ name, group: `${below}/${name}`, bounds, windowMs, log });
      this.computes.set(name, compute);
      await compute.look(runtime);
      if (isTime || known === undefined) void compute.decide(runtime, bounds);
    }
  }

  /** When the computes have ended. */
  async close(): Promise<void> {
    this.isClosed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    await this.looking;
    await Promise.all([...this.computes.values()].map((compute) => compute.close()));
    await removeGroupsBelow(this.options.groupsBelow);
  }
}
