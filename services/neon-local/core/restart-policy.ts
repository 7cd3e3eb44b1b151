/** When a supervised process that died is started again: at once the first time, then with growing pauses while it keeps dying. */

export const RESTART_DELAY_MS_MAX = 10_000;
/** A process that lived this long counts as healthy again. */
export const HEALTHY_AFTER_MS = 30_000;
const FIRST_DELAY_MS = 100;

export interface RestartState {
  /** Deaths in a row, each after less than HEALTHY_AFTER_MS. */
  readonly quickDeathCount: number;
}

export const NEVER_DIED: RestartState = { quickDeathCount: 0 };

/** State after a death of a process that lived for `livedMs`, and how long to wait before the next start. */
export function afterDeath(state: RestartState, livedMs: number): { state: RestartState; delayMs: number } {
  const quickDeathCount = livedMs >= HEALTHY_AFTER_MS ? 1 : state.quickDeathCount + 1;
  const delayMs = quickDeathCount === 1 ? 0 : FIRST_DELAY_MS * 2 ** Math.min(quickDeathCount - 2, 16);
  return { state: { quickDeathCount }, delayMs: Math.min(delayMs, RESTART_DELAY_MS_MAX) };
}
