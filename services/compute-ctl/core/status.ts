/** What a compute tells about itself. */
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantTimelineId } from '#shared/core/ids.js';

export type ComputePhase =
  | 'configuration_pending'
  | 'init'
  | 'running'
  | 'failed'
  | 'termination_pending_fast'
  | 'termination_pending_immediate'
  | 'terminated';

/** Milliseconds each step of the start took; 0 = not done. Steps overlap: their sum exceeds the total. */
export interface StartTimings {
  /** Election, and recovery of WAL that an earlier compute left undecided. */
  syncSafekeepersMs: number;
  basebackupMs: number;
  basebackupBytes: number;
  startPostgresMs: number;
  configMs: number;
  /** From the start of the process. */
  totalMs: number;
}

export interface ComputeStatus {
  readonly phase: ComputePhase;
  /** Empty: none. */
  readonly error: string;
  readonly ttid: TenantTimelineId | null;
  readonly startLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly term: number;
  readonly timings: Readonly<StartTimings>;
  readonly connstr: string;
  readonly startTimeMs: number;
}

export function noTimings(): StartTimings {
  return { syncSafekeepersMs: 0, basebackupMs: 0, basebackupBytes: 0, startPostgresMs: 0, configMs: 0, totalMs: 0 };
}

/** Whether a compute in this phase is on its way out: then neither a start goes on, nor is a failure news. */
export function isEnding(phase: ComputePhase): boolean {
  return phase === 'failed' || phase === 'terminated' || phase.startsWith('termination_pending');
}
