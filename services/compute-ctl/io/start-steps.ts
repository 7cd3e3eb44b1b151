/**
 * For tests: NEON_COMPUTE_CTL_DIE_AT names a step of the start at which this process is killed the hard way, as a machine that loses its
 * power would be. A process that waits for its spec reaches `elected` and `base-backup-header` in its rehearsal. Without it this costs a comparison.
 */
export const START_STEPS = [
  'postgres-spawned',
  'ground',
  'elected',
  'base-backup-header',
  'base-backup',
  'configured',
  'postgres-ready',
  'attached',
  'catalog',
] as const;
export type StartStep = (typeof START_STEPS)[number];

const dieAt = process.env['NEON_COMPUTE_CTL_DIE_AT'];

export function reachStep(step: StartStep): void {
  if (dieAt === step) process.kill(process.pid, 'SIGKILL');
}
