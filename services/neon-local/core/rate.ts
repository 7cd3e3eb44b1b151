/** Rate and time left of a transfer, over the last seconds. Pure. */

/** Longer would not follow changes, shorter would jump. */
const WINDOW_MS = 5_000;

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

export class Rate {
  private samples: Sample[] = [];

  add(atMs: number, bytes: number): void {
    if ((this.samples.at(-1)?.bytes ?? 0) > bytes) this.samples = [];
    this.samples.push({ atMs, bytes });
    while (this.samples.length > 2 && (this.samples[1]?.atMs ?? atMs) < atMs - WINDOW_MS) this.samples.shift();
  }

  /** 0 = not known yet. */
  get bytesPerS(): number {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last || last.atMs <= first.atMs) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }

  /** Null = not known. */
  secondsLeft(totalBytes: number): number | null {
    const rate = this.bytesPerS;
    const last = this.samples.at(-1);
    if (rate <= 0 || totalBytes <= 0 || !last) return null;
    return Math.max(0, (totalBytes - last.bytes) / rate);
  }
}

/** "█████░░░░░" */
export function bar(share: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return '█'.repeat(full) + '░'.repeat(width - full);
}
