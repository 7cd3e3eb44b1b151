/**
 * Least-recently-used order with a byte budget. Intrusive: the entries are the caller's objects and the caller's maps find them; this
 * class only keeps the order and says who must go. A touch is a few pointer writes.
 */
export interface LruEntry {
  /** Must not change while the entry is in. */
  readonly sizeBytes: number;
  newer: LruEntry | null;
  older: LruEntry | null;
}

export class ByteLru<E extends LruEntry> {
  readonly capacityBytes: number;
  usedBytes = 0;
  count = 0;
  private newest: LruEntry | null = null;
  private oldest: LruEntry | null = null;
  private readonly evicted: (entry: E) => void;

  /** `evicted` takes the entry out of the caller's maps; it is not called for `remove`. */
  constructor(capacityBytes: number, evicted: (entry: E) => void) {
    this.capacityBytes = capacityBytes;
    this.evicted = evicted;
  }

  /** Adds a new entry as the newest and evicts until the budget holds; an entry above the whole budget goes at once. */
  add(entry: E): void {
    this.link(entry);
    this.usedBytes += entry.sizeBytes;
    this.count++;
    while (this.usedBytes > this.capacityBytes && this.oldest !== null) {
      const victim = this.oldest as E;
      this.remove(victim);
      this.evicted(victim);
    }
  }

  touch(entry: E): void {
    if (this.newest === entry) return;
    this.unlink(entry);
    this.link(entry);
  }

  remove(entry: E): void {
    this.unlink(entry);
    this.usedBytes -= entry.sizeBytes;
    this.count--;
  }

  private link(entry: LruEntry): void {
    entry.newer = null;
    entry.older = this.newest;
    if (this.newest !== null) this.newest.newer = entry;
    this.newest = entry;
    if (this.oldest === null) this.oldest = entry;
  }

  private unlink(entry: LruEntry): void {
    if (entry.newer === null) this.newest = entry.older;
    else entry.newer.older = entry.older;
    if (entry.older === null) this.oldest = entry.newer;
    else entry.older.newer = entry.newer;
    entry.newer = null;
    entry.older = null;
  }
}
