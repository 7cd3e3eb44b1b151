/**
 * What WAL readers of one timeline have told about themselves, merged into one answer. Readers are page servers; each holds the whole
 * tenant or one shard of it. Of several with the same shard the most advanced counts: while a shard moves between page servers the old
 * one lags for ever. Of the shards the least advanced counts, also while its page server is away; with one that never spoke nothing is
 * known. A tenant that is split has more shards from then on: only the readers with the highest count are asked.
 */
import { INVALID_LSN, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';

export interface PageserverFeedback {
  readonly timelineSizeBytes: number;
  readonly lastReceivedLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  /** Microseconds since 1970. */
  readonly replyTimeUs: number;
  /** 0 also when it has the whole tenant. */
  readonly shardNumber: number;
  /** 0 = the reader has the whole tenant. */
  readonly shardCount: number;
}

export class FeedbackBook {
  private readonly byReader = new Map<number, PageserverFeedback>();
  /** What was said last of each shard, by its number. */
  private readonly last = new Map<number, PageserverFeedback>();
  private shardCount = 0;
  private newest: PageserverFeedback | null = null;

  get readerCount(): number {
    return this.byReader.size;
  }

  /** Returns whether the merged feedback changed in more than its time. */
  put(reader: number, feedback: PageserverFeedback): boolean {
    this.byReader.set(reader, feedback);
    const before = this.newest;
    this.merge();
    return before === null || !samePositions(before, this.newest as PageserverFeedback);
  }

  /** What it said last stays known until another reader says more. */
  remove(reader: number): void {
    this.byReader.delete(reader);
    this.merge();
  }

  /** Null: none yet. */
  get merged(): PageserverFeedback | null {
    return this.newest;
  }

  private merge(): void {
    const counts = [...this.byReader.values()].map((feedback) => feedback.shardCount);
    const count = Math.max(this.shardCount, ...counts);
    if (count !== this.shardCount) this.last.clear();
    this.shardCount = count;
    const best = new Map<number, PageserverFeedback>();
    for (const feedback of this.byReader.values()) {
      const { shardNumber, lastReceivedLsn } = feedback;
      if (feedback.shardCount !== count) continue;
      if (lastReceivedLsn >= (best.get(shardNumber)?.lastReceivedLsn ?? INVALID_LSN)) best.set(shardNumber, feedback);
    }
    for (const [number, feedback] of best) this.last.set(number, feedback);
    this.newest = leastOf(this.last, Math.max(1, count)) ?? this.newest;
  }
}

/** Null when no shard has said anything. */
function leastOf(shards: ReadonlyMap<number, PageserverFeedback>, count: number): PageserverFeedback | null {
  const [some] = shards.values();
  if (some === undefined) return null;
  let least = shards.get(0) ?? some;
  for (const other of shards.values()) {
    least = {
      ...least,
      lastReceivedLsn: lsnMin(least.lastReceivedLsn, other.lastReceivedLsn),
      diskConsistentLsn: lsnMin(least.diskConsistentLsn, other.diskConsistentLsn),
      remoteConsistentLsn: lsnMin(least.remoteConsistentLsn, other.remoteConsistentLsn),
      replyTimeUs: Math.max(least.replyTimeUs, other.replyTimeUs),
    };
  }
  if (shards.size === count) return least;
  const nowhere = { lastReceivedLsn: INVALID_LSN, diskConsistentLsn: INVALID_LSN, remoteConsistentLsn: INVALID_LSN };
  return { ...least, ...nowhere };
}

function samePositions(a: PageserverFeedback, b: PageserverFeedback): boolean {
  return (
    a.lastReceivedLsn === b.lastReceivedLsn &&
    a.diskConsistentLsn === b.diskConsistentLsn &&
    a.remoteConsistentLsn === b.remoteConsistentLsn &&
    a.timelineSizeBytes === b.timelineSizeBytes
  );
}
