/**
 * Suspends computes that nobody uses. Active is who moves bytes through the connect port, or has a session that is not idle; a session
 * that only stays open does not keep a compute alive, it is ended with it.
 */
import pg from 'pg';
import { errorText } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ComputeEntry } from '../core/catalog-schema.js';
import { computeUrl } from './compute-manager.js';

const PERIOD_MS_MIN = 200;
const PERIOD_MS_MAX = 15_000;
const QUERY_LIMIT_MS = 5_000;

/**
 * Seconds since a session last did something; sessions that do something now count as 0. Logical subscribers are active. What compute_ctl
 * and its monitors do over connections of their own, twice a second, is no use of a compute.
 */
const IDLE_SQL = `
  select coalesce(min(case when state = 'idle' then extract(epoch from clock_timestamp() - state_change) else 0 end), 1e9)::float8 as idle_s
  from pg_stat_activity
  where pid <> pg_backend_pid()
    and application_name not like 'compute\\_ctl:%' and application_name <> 'vm-monitor'
    and (backend_type = 'client backend' or backend_type = 'walsender' and application_name <> 'walproposer')`;

export interface SuspendOptions {
  readonly log: Logger;
  /** Computes that run now. */
  readonly running: () => readonly ComputeEntry[];
  readonly stop: (name: string) => Promise<unknown>;
}

async function sessionIdleS(pgPort: number): Promise<number> {
  const client = new pg.Client({
    connectionString: computeUrl(pgPort),
    connectionTimeoutMillis: QUERY_LIMIT_MS,
    query_timeout: QUERY_LIMIT_MS,
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<{ idle_s: number }>(IDLE_SQL);
    return rows[0]?.idle_s ?? 0;
  } finally {
    await client.end().catch(() => undefined);
  }
}

export class Suspender {
  private readonly options: SuspendOptions;
  private readonly lastActiveMs = new Map<string, number>();
  private readonly busy = new Set<string>();
  private timer: NodeJS.Timeout | null = null;
  private isClosed = false;

  constructor(options: SuspendOptions) {
    this.options = options;
    this.schedule();
  }

  /** Cheap: called for each chunk of each connection. */
  readonly touch = (computeName: string): void => {
    this.lastActiveMs.set(computeName, performance.now());
  };

  private schedule(): void {
    if (this.isClosed) return;
    const shortest = Math.min(...this.watched().map((entry) => entry.suspendAfterS * 1000), PERIOD_MS_MAX * 4);
    const periodMs = Math.max(PERIOD_MS_MIN, Math.min(PERIOD_MS_MAX, shortest / 4));
    this.timer = setTimeout(() => {
      for (const entry of this.watched()) void this.look(entry);
      this.schedule();
    }, periodMs);
  }

  private watched(): ComputeEntry[] {
    return this.options.running().filter((entry) => entry.suspendAfterS > 0);
  }

  private isIdle(entry: ComputeEntry): boolean {
    const last = this.lastActiveMs.get(entry.name);
    // Seen for the first time: its time begins now.
    if (last === undefined) this.touch(entry.name);
    return last !== undefined && performance.now() - last >= entry.suspendAfterS * 1000;
  }

  private async look(entry: ComputeEntry): Promise<void> {
    if (this.busy.has(entry.name) || !this.isIdle(entry)) return;
    this.busy.add(entry.name);
    try {
      const idleS = await sessionIdleS(entry.pgPort);
      if (idleS < entry.suspendAfterS) {
        this.lastActiveMs.set(entry.name, performance.now() - idleS * 1000);
        return;
      }
      // Between this look and the call of stop() nothing else runs: whoever comes later waits for the stop, then starts anew.
      if (this.isClosed || !this.isIdle(entry)) return;
      this.lastActiveMs.delete(entry.name);
      await this.options.stop(entry.name);
      this.options.log.info({ compute: entry.name, idleS: entry.suspendAfterS }, 'suspended compute');
    } catch (error) {
      this.options.log.info(
        { compute: entry.name, reason: errorText(error) },
        'could not tell whether a compute is idle',
      );
      this.touch(entry.name);
    } finally {
      this.busy.delete(entry.name);
    }
  }

  close(): void {
    this.isClosed = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }
}
