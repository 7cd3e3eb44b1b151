/** What WAL readers of one timeline have told about themselves, merged into one answer. */
import type { Lsn } from '#shared/core/lsn.js';

export interface PageserverFeedback {
  readonly timelineSizeBytes: number;
  readonly lastReceivedLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  /** Microseconds since 1970. */
  readonly replyTimeUs: number;
}

export class FeedbackBook {
  private readonly byReader = new Map<number, PageserverFeedback>();
  private newest: PageserverFeedback | null = null;

  get readerCount(): number {
    return this.byReader.size;
  }

  /** Returns whether the merged feedback changed in more than its time. */
  put(reader: number, feedback: PageserverFeedback): boolean {
    this.byReader.set(reader, feedback);
    const before = this.newest;
    this.newest = this.merge() ?? before;
    return before === null || !samePositions(before, this.newest as PageserverFeedback);
  }

  /** What it said last stays known until another reader says more. */
  remove(reader: number): void {
    this.byReader.delete(reader);
    this.newest = this.merge() ?? this.newest;
  }

  /** That of the most advanced reader: while a timeline moves between page servers the old one lags for ever. Null: none yet. */
  get merged(): PageserverFeedback | null {
    return this.newest;
  }

  private merge(): PageserverFeedback | null {
    let best: PageserverFeedback | null = null;
    for (const feedback of this.byReader.values()) {
      if (best === null || feedback.lastReceivedLsn >= best.lastReceivedLsn) best = feedback;
    }
    return best;
  }
}

function samePositions(a: PageserverFeedback, b: PageserverFeedback): boolean {
  return (
    a.lastReceivedLsn === b.lastReceivedLsn &&
    a.diskConsistentLsn === b.diskConsistentLsn &&
    a.remoteConsistentLsn === b.remoteConsistentLsn &&
    a.timelineSizeBytes === b.timelineSizeBytes
  );
}
