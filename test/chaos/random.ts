/** Numbers that look random and follow from a seed (mulberry32), so that a schedule can be run again. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  }

  /** In [from, to], whole. */
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  pick<T>(items: readonly [T, ...T[]]): T {
    return items[this.int(0, items.length - 1)] ?? items[0];
  }

  /** `count` of the numbers 1…max, each at most once. */
  sample(count: number, max: number): number[] {
    const all = Array.from({ length: max }, (_, i) => i + 1);
    return Array.from({ length: Math.min(count, max) }, () => all.splice(this.int(0, all.length - 1), 1)).flat();
  }
}
