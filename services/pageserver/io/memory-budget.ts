/**
 * Bounds the in-memory layers of all timelines together: above one limit the timeline with the largest open layer is flushed, above
 * another ingest waits until flushes have made room.
 */
import type { MemoryLayer } from '../core/storage/memory-layer.js';

export interface MemoryUser {
  /** Open and frozen layers; the first is the open one. */
  readonly memoryLayers: readonly MemoryLayer[];
  /** Has the open layer written out. */
  requestFreeze(): void;
}

/** Below this a layer is not worth a file of its own. */
const WORTHWHILE_BYTES = 4 << 20;
const ROOM_WAIT_MS = 1000;

export interface MemoryLimits {
  /** Of open layers. */
  readonly memoryBytesMax: number;
  /** Of open and frozen layers. */
  readonly memoryBytesHard: number;
}

export class MemoryBudget {
  /** How often ingest had to wait. */
  heldBackCount = 0;
  private readonly limits: MemoryLimits;
  private readonly users = new Set<MemoryUser>();
  private waiting: Array<() => void> = [];

  constructor(limits: MemoryLimits) {
    this.limits = limits;
  }

  add(user: MemoryUser): void {
    this.users.add(user);
  }

  remove(user: MemoryUser): void {
    this.users.delete(user);
    this.freed();
  }

  /** A frozen layer is out of memory. */
  freed(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }

  /**
   * Waits while there is too much and some of it is on its way out: a second at most, since a timeline whose flushes fail must not
   * hold up all others for good.
   */
  async waitForRoom(): Promise<void> {
    if (!this.mustWait()) return;
    this.heldBackCount++;
    const until = performance.now() + ROOM_WAIT_MS;
    while (this.mustWait() && performance.now() < until) await this.nextFreed(until - performance.now());
  }

  private nextFreed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private mustWait(): boolean {
    let sum = 0;
    let hasFrozen = false;
    for (const { memoryLayers } of this.users) {
      for (const layer of memoryLayers) sum += layer.sizeBytes;
      hasFrozen ||= memoryLayers.length > 1;
    }
    return hasFrozen && sum > this.limits.memoryBytesHard;
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
    if (sum > this.limits.memoryBytesMax) largest?.requestFreeze();
  }
}
