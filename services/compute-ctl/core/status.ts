/** What a compute tells about itself. */
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { ComputePhase } from './state-machine.js';

/** Milliseconds each step of the start took; 0 = not done. Steps overlap: their sum exceeds the total. */
export interface StartTimings {
  /** From the start of the process until a spec was there. */
  waitForSpecMs: number;
  /** Election, and recovery of WAL that an earlier compute left undecided. */
  syncSafekeepersMs: number;
  basebackupMs: number;
  basebackupBytes: number;
  /** From a complete data directory to connections: the server has waited for it since the spec came. */
  startPostgresMs: number;
  configMs: number;
  /** From the start of the process, or from the arrival of the spec when there was none then. */
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
  /** When somebody last used the database, milliseconds since 1970; null: never since it runs. */
  readonly lastActiveMs: number | null;
  /** Settings of the newest spec that take effect only with a new start. */
  readonly pendingRestart: readonly string[];
}

export function noTimings(): StartTimings {
  return {
    waitForSpecMs: 0,
    syncSafekeepersMs: 0,
    basebackupMs: 0,
    basebackupBytes: 0,
    startPostgresMs: 0,
    configMs: 0,
    totalMs: 0,
  };
}
