/** neon.compute.v1.ComputeService. */
import { ComputeState, TerminateMode } from '#gen/neon/compute/v1/compute.js';
import type { ComputeServiceServer, GetStatusResponse } from '#gen/neon/compute/v1/compute.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';
import type { ComputePhase, ComputeStatus } from '../core/status.js';

const STATE: Record<ComputePhase, ComputeState> = {
  configuration_pending: ComputeState.CONFIGURATION_PENDING,
  init: ComputeState.INIT,
  running: ComputeState.RUNNING,
  failed: ComputeState.FAILED,
  termination_pending_fast: ComputeState.TERMINATION_PENDING_FAST,
  termination_pending_immediate: ComputeState.TERMINATION_PENDING_IMMEDIATE,
  terminated: ComputeState.TERMINATED,
};

/** What the edges may do with a compute. */
export interface ComputeControl {
  status(): ComputeStatus;
  /** Ends the compute and, in its own time, the process. Resolves with the flush LSN when Postgres has ended. */
  terminate(mode: 'fast' | 'immediate'): Promise<bigint>;
}

export function computeService(control: ComputeControl): ComputeServiceServer {
  return {
    getStatus: unary(async () => toWire(control.status())),
    terminate: unary(async (request) => {
      const mode = request.mode === TerminateMode.IMMEDIATE ? 'immediate' : 'fast';
      return { flushLsn: await control.terminate(mode) };
    }),
  };
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
    startTimeMs: BigInt(Math.round(status.startTimeMs)),
  };
}
