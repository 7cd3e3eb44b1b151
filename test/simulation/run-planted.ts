/** Runs schedules with a planted fault until one notices it. */
import type { Fault } from './fault.js';
import { runSchedule } from './schedule.js';

export interface PlantedReport {
  readonly fault: Fault;
  /** Of the first schedule that failed; null when none did. */
  readonly seed: number | null;
  readonly failure: string | null;
  readonly schedules: number;
  /** Noticed, or harmless and not noticed. */
  readonly isAsExpected: boolean;
}

export function runPlanted(fault: Fault, firstSeed: number, schedulesMax: number): PlantedReport {
  for (let count = 0; count < schedulesMax; count++) {
    const { seed, failure } = runSchedule(firstSeed + count, { fault });
    if (failure === null) continue;
    return { fault, seed, failure, schedules: count + 1, isAsExpected: fault.harmless === undefined };
  }
  const isAsExpected = fault.harmless !== undefined;
  return { fault, seed: null, failure: null, schedules: schedulesMax, isAsExpected };
}
