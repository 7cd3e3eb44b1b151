/**
 * Buffers lie outside the JavaScript heap, and the engine lets some ten megabytes of dead ones come together in each thread before it
 * looks for them. Whoever makes many short-lived buffers says so here; in a process under bounds (bounded.ts) young objects are then
 * collected each few megabytes, which takes about a millisecond. Elsewhere this does nothing.
 */
const COLLECT_BYTES = 4 << 20;

type Collect = (options: { type: 'minor' | 'major'; execution: 'sync' }) => void;

const collect = (globalThis as { gc?: Collect }).gc;

let allocatedBytes = 0;

export function noteShortLived(bytes: number): void {
  allocatedBytes += bytes;
  if (allocatedBytes < COLLECT_BYTES || collect === undefined) return;
  allocatedBytes = 0;
  collect({ type: 'minor', execution: 'sync' });
}
