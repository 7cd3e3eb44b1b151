/** The HTTP routes of a compute, in the shapes that control planes and probes of Neon's compute_ctl expect. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsnFromWire } from '#shared/core/lsn.js';
import type { ComputeControl } from './compute-service.js';

const terminateQuery = z.object({ mode: z.enum(['fast', 'immediate']).default('fast') });

export function addRoutes(server: FastifyInstance, control: ComputeControl): void {
  server.get('/status', () => {
    const status = control.status();
    return {
      start_time: new Date(status.startTimeMs).toISOString(),
      tenant: status.ttid?.tenantId ?? null,
      timeline: status.ttid?.timelineId ?? null,
      status: status.phase,
      last_active: null,
      error: status.error === '' ? null : status.error,
    };
  });
  server.get('/metrics.json', () => {
    const { timings } = control.status();
    return {
      sync_safekeepers_ms: Math.round(timings.syncSafekeepersMs),
      basebackup_ms: Math.round(timings.basebackupMs),
      basebackup_bytes: timings.basebackupBytes,
      start_postgres_ms: Math.round(timings.startPostgresMs),
      config_ms: Math.round(timings.configMs),
      total_startup_ms: Math.round(timings.totalMs),
    };
  });
  server.post('/terminate', async (request) => {
    const query = terminateQuery.safeParse(request.query);
    if (!query.success) throw new StorageError('invalid', 'mode must be fast or immediate');
    const flushLsn = lsnFromWire(await control.terminate(query.data.mode));
    return { lsn: flushLsn === 0 ? null : formatLsn(flushLsn) };
  });
}
