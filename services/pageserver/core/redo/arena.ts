/**
 * The memory in which redo works: one buffer made once, so that the typed arrays over it are constants and redo allocates nothing.
 * An address is a byte offset into it; a page is named by its address. Redo is synchronous and not re-entrant: each worker thread
 * has its own copy of this module.
 *
 *   0       the page under redo (PAGE)
 *   8192    a page in the making or a copy of the old one (TEMP_PAGE)
 *   16384   tuples in the making (SCRATCH), 16 KiB
 *   32768   the value being applied (RECORD), up to RECORD_BYTES_MAX
 */
export const PAGE_BYTES = 8192;
export const PAGE = 0;
export const TEMP_PAGE = PAGE_BYTES;
export const SCRATCH = 2 * PAGE_BYTES;
export const SCRATCH_BYTES = 2 * PAGE_BYTES;
export const RECORD = SCRATCH + SCRATCH_BYTES;
/** A value holds at most 64 KiB of block data and some main data. */
export const RECORD_BYTES_MAX = 256 * 1024;

const buffer = new ArrayBuffer(RECORD + RECORD_BYTES_MAX);
export const memory = new Uint8Array(buffer);
const memory16 = new Uint16Array(buffer);
const memory32 = new Uint32Array(buffer);
const view = new DataView(buffer);

/** Below this a loop beats the call into the engine. */
const LOOP_BYTES_MAX = 24;

/** At an even address. */
export function load16(at: number): number {
  return memory16[at >>> 1]!;
}

export function store16(at: number, value: number): void {
  memory16[at >>> 1] = value;
}

/** At a multiple of 4. */
export function load32(at: number): number {
  return memory32[at >>> 2]!;
}

export function store32(at: number, value: number): void {
  memory32[at >>> 2] = value;
}

/** At any address: WAL bytes are not aligned. */
export function peek8(at: number): number {
  return memory[at]!;
}

export function peek16(at: number): number {
  return view.getUint16(at, true);
}

export function peek32(at: number): number {
  return view.getUint32(at, true);
}

export function poke16(at: number, value: number): void {
  view.setUint16(at, value, true);
}

export function poke32(at: number, value: number): void {
  view.setUint32(at, value, true);
}

export function peekFloat64(at: number): number {
  return view.getFloat64(at, true);
}

export function pokeFloat64(at: number, value: number): void {
  view.setFloat64(at, value, true);
}

/** As memmove: the ranges may overlap. */
export function move(to: number, from: number, count: number): void {
  if (count > LOOP_BYTES_MAX || (to > from && to < from + count)) {
    memory.copyWithin(to, from, from + count);
    return;
  }
  for (let i = 0; i < count; i++) memory[to + i] = memory[from + i]!;
}

export function clear(at: number, count: number): void {
  memory.fill(0, at, at + count);
}

/** Rounds up to a multiple of 8. */
export function maxAlign(size: number): number {
  return (size + 7) & ~7;
}
