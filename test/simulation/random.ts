/** Numbers from a seed (mulberry32): the only source of chance in a simulated world, so that a seed is the whole world. */

export type Random = (below: number) => number;

/** Whole numbers in [0, below). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000) * below);
  };
}

export function pick<T>(random: Random, from: readonly T[]): T | undefined {
  return from[random(from.length)];
}
