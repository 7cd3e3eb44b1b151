/**
 * Looks twice a second at who uses Postgres, over a connection of its own, made anew when it breaks. Begins when the compute runs, not
 * on the way to its first query.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { errorText } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import { NO_ACTIVITY, noteActivity } from '../core/activity.js';
import type { ActivitySample } from '../core/activity.js';
import { APPLICATION_NAME, connectTo, connectionCount } from './catalog.js';
import type { ServerAddress } from './catalog.js';
import { SLOT_NAME } from './replication-client.js';

const INTERVAL_MS = 500;
/** A connection costs Postgres as much as a first query does, which would wait for it. */
const FIRST_LOOK_AFTER_MS = 300;
const RECONNECT_MS = 1_000;

const QUERY = `SELECT
    (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS "nowMs",
    count(*) FILTER (WHERE backend_type = 'client backend' AND mine AND state <> 'idle')::int AS "busySessions",
    (extract(epoch FROM max(state_change) FILTER (WHERE backend_type = 'client backend' AND mine)) * 1000)::float8 AS "idleSinceMs",
    count(*) FILTER (WHERE backend_type = 'walsender' AND application_name <> '${SLOT_NAME}')::int AS "walSenders",
    (SELECT count(*)::int FROM pg_stat_subscription WHERE pid IS NOT NULL) AS "subscriptionWorkers",
    (SELECT coalesce(sum(sessions), 0)::float8 FROM pg_stat_database) AS "sessionsBegun"
  FROM (SELECT *, application_name NOT LIKE '${APPLICATION_NAME}%' AS mine FROM pg_stat_activity) AS sessions`;

export class ActivityMonitor {
  private readonly log: Logger;
  private readonly stopping = new AbortController();
  private activity = NO_ACTIVITY;
  private server: ServerAddress | null = null;
  private looping = false;
  /** Milliseconds since the monitor saw Postgres last, summed over its failures; for a metric. */
  downMs = 0;

  constructor(log: Logger) {
    this.log = log;
  }

  /** Milliseconds since 1970; null: nobody used it yet. */
  get lastActiveMs(): number | null {
    return this.activity.lastActiveMs;
  }

  /** From now on looks at this server. */
  watch(server: ServerAddress | null): void {
    if (server === this.server) return;
    this.server = server;
    this.activity = { ...this.activity, sessionsBegun: null };
    if (this.looping || server === null) return;
    this.looping = true;
    void this.loop();
  }

  close(): void {
    this.stopping.abort();
  }

  private async loop(): Promise<void> {
    const { signal } = this.stopping;
    await sleep(FIRST_LOOK_AFTER_MS, undefined, { signal }).catch(() => undefined);
    while (!signal.aborted) {
      const beganMs = performance.now();
      try {
        if (this.server !== null) await this.look(this.server);
      } catch (error) {
        this.downMs += performance.now() - beganMs + RECONNECT_MS;
        this.log.debug({ reason: errorText(error) }, 'could not look at the sessions');
      }
      await sleep(RECONNECT_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Until the connection breaks, another server is to be watched, or the end. */
  private async look(server: ServerAddress): Promise<void> {
    const { signal } = this.stopping;
    const client = await connectTo(server, 'postgres', 'monitor');
    const end = (): void => void client.end().catch(() => undefined);
    signal.addEventListener('abort', end, { once: true });
    try {
      while (!signal.aborted && server === this.server) {
        this.activity = noteActivity(this.activity, await sample(client));
        await sleep(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      signal.removeEventListener('abort', end);
      end();
    }
  }
}

async function sample(client: pg.Client): Promise<ActivitySample> {
  const { rows } = await client.query<ActivitySample>(QUERY);
  const [row] = rows;
  if (row === undefined) throw new Error('no answer');
  return { ...row, sessionsBegun: row.sessionsBegun - connectionCount() };
}
