/** neon.compute.v1.ComputeService. */
import { ComputeState, TerminateMode } from '#gen/neon/compute/v1/compute.js';
import type { ComputeServiceServer, GetStatusResponse } from '#gen/neon/compute/v1/compute.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import type { Compute } from '../compute.js';
import type { ComputePhase } from '../core/state-machine.js';
import type { ComputeStatus } from '../core/status.js';

const STATE: Record<ComputePhase, ComputeState> = {
  empty: ComputeState.EMPTY,
  configuration_pending: ComputeState.CONFIGURATION_PENDING,
  configuration: ComputeState.CONFIGURATION,
  init: ComputeState.INIT,
  running: ComputeState.RUNNING,
  refresh_configuration_pending: ComputeState.REFRESH_CONFIGURATION_PENDING,
  refresh_configuration: ComputeState.REFRESH_CONFIGURATION,
  termination_pending_fast: ComputeState.TERMINATION_PENDING_FAST,
  termination_pending_immediate: ComputeState.TERMINATION_PENDING_IMMEDIATE,
  terminated: ComputeState.TERMINATED,
  failed: ComputeState.FAILED,
};

export function computeService(compute: Compute): ComputeServiceServer {
  return {
    getStatus: unary(async () => toWire(compute.status())),
    configure: unary(async ({ specJson }) => {
      await compute.configure(specJson).done;
      return {};
    }),
    refreshConfiguration: unary(async () => {
      compute.refresh();
      return {};
    }),
    getLastActivity: unary(async () => {
      const { lastActiveMs, startTimeMs } = compute.status();
      const idleMs = Math.max(0, Date.now() - (lastActiveMs ?? startTimeMs));
      return { lastActiveMs: wholeMs(lastActiveMs ?? 0), idleMs: wholeMs(idleMs) };
    }),
    terminate: unary(async (request) => {
      const mode = request.mode === TerminateMode.IMMEDIATE ? 'immediate' : 'fast';
      return { flushLsn: lsnToWire(await compute.terminate(mode)) };
    }),
  };
}

function wholeMs(ms: number): bigint {
  return BigInt(Math.round(ms));
}

function toWire(status: ComputeStatus): GetStatusResponse {
  return {
    state: STATE[status.phase],
    error: status.error,
    tenantId: status.ttid?.tenantId ?? '',
    timelineId: status.ttid?.timelineId ?? '',
    startLsn: lsnToWire(status.startLsn),
    commitLsn: lsnToWire(status.commitLsn),
    term: BigInt(status.term),
    timings: { ...status.timings, basebackupBytes: BigInt(status.timings.basebackupBytes) },
    connstr: status.connstr,
    startTimeMs: wholeMs(status.startTimeMs),
    lastActiveMs: wholeMs(status.lastActiveMs ?? 0),
    pendingRestart: [...status.pendingRestart],
  };
}
