/**
 * Puts the JavaScript engine and the C library under bounds that only count from the start of a process: the process replaces itself by
 * the same program with them, keeping its id, its standard streams and its arguments. Call it before anything is open.
 */
const BOUNDED_ENV = 'NEON_RUNTIME_BOUNDED';
const MIB = 1 << 20;

export interface RuntimeBounds {
  /** Of old objects in one thread. Reached = the process ends: it is no limit to plan with, it makes the engine collect earlier. */
  readonly heapBytes: number;
  /** Of a half of the space for young objects; null = the engine's choice. */
  readonly youngBytes: number | null;
}

/** Of glibc; an environment that sets them already has its way. */
const ALLOCATOR_ENV = {
  // What one thread gave back another can use: with an arena for each, each keeps what it once needed.
  MALLOC_ARENA_MAX: '1',
  // Larger ones lie in pages of their own. A fixed value: by itself it rises with the first large buffer that is freed. Well above blocks of
  // layer files and what compresses them: at 32 KiB there were no holes, but taking and giving back pages took most of the processor.
  MALLOC_MMAP_THRESHOLD_: String(512 * 1024),
  // What a compression needs is given back and taken again for each block: as much stays at hand.
  MALLOC_TRIM_THRESHOLD_: String(4 * MIB),
} as const;

/** Returns only in a process that is under the bounds, or on a system that cannot do it. */
export function enterBounds(bounds: RuntimeBounds): void {
  if (process.env[BOUNDED_ENV] === '1' || process.execve === undefined) return;
  const flags = [`--max-old-space-size=${Math.floor(bounds.heapBytes / MIB)}`, '--expose-gc'];
  if (bounds.youngBytes !== null) flags.push(`--max-semi-space-size=${bounds.youngBytes / MIB}`);
  const args = [process.execPath, ...flags, ...process.execArgv, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { ...ALLOCATOR_ENV, ...process.env, [BOUNDED_ENV]: '1' });
}
