/** Bounds the in-memory layers of all timelines together: above the budget the timeline with the largest open layer is flushed. */
import type { MemoryLayer } from '../core/storage/memory-layer.js';

export interface MemoryUser {
  /** Open and frozen layers; the first is the open one. */
  readonly memoryLayers: readonly MemoryLayer[];
  /** Has the open layer written out. */
  requestFreeze(): void;
}

/** Below this a layer is not worth a file of its own. */
const WORTHWHILE_BYTES = 4 << 20;

export class MemoryBudget {
  private readonly limitBytes: number;
  private readonly users = new Set<MemoryUser>();

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  add(user: MemoryUser): void {
    this.users.add(user);
  }

  remove(user: MemoryUser): void {
    this.users.delete(user);
  }

  get usedBytes(): number {
    let sum = 0;
    for (const user of this.users) for (const layer of user.memoryLayers) sum += layer.sizeBytes;
    return sum;
  }

  /** Call now and then while layers grow. Frozen layers count as gone: they are on their way out. */
  enforce(): void {
    let sum = 0;
    let largest: MemoryUser | null = null;
    let largestBytes = WORTHWHILE_BYTES;
    for (const user of this.users) {
      const openBytes = user.memoryLayers[0]?.sizeBytes ?? 0;
      sum += openBytes;
      if (openBytes <= largestBytes) continue;
      largest = user;
      largestBytes = openBytes;
    }
    if (sum > this.limitBytes) largest?.requestFreeze();
  }
}
