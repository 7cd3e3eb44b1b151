/**
 * A supervised service must not outlive its supervisor, even one that was killed. The supervisor holds the write end of the child's
 * stdin; when it dies, the kernel closes the pipe and the child sees the end of its input.
 */
import type { Shutdown } from './shutdown.js';

export const EXIT_WITH_PARENT_ENV = 'NEON_EXIT_WITH_PARENT';

export function exitWithParent(shutdown: Shutdown): void {
  if (process.env[EXIT_WITH_PARENT_ENV] !== '1') return;
  process.stdin.on('end', () => shutdown.request('parent ended'));
  process.stdin.on('error', () => shutdown.request('parent ended'));
  process.stdin.resume();
  // It may die while we tell it that we are ready: the end of our input says so, too.
  process.stdout.on('error', () => undefined);
}
