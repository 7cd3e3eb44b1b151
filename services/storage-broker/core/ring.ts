/** A bounded queue that makes room by dropping its oldest entry. */
export class Ring<T> {
  /** Entries dropped since the start. */
  droppedCount = 0;
  private readonly capacity: number;
  /** Grows up to capacity: most subscribers never lag. */
  private readonly slots: (T | undefined)[] = [];
  private first = 0;
  private used = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get count(): number {
    return this.used;
  }

  push(entry: T): void {
    if (this.used === this.capacity) {
      this.slots[this.first] = entry;
      this.first = (this.first + 1) % this.capacity;
      this.droppedCount += 1;
      return;
    }
    this.slots[(this.first + this.used) % this.capacity] = entry;
    this.used += 1;
  }

  shift(): T | undefined {
    if (this.used === 0) return undefined;
    const entry = this.slots[this.first];
    this.slots[this.first] = undefined;
    this.first = (this.first + 1) % this.capacity;
    this.used -= 1;
    return entry;
  }
}
