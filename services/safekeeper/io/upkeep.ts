/**
 * What is done for all timelines now and then: upload of WAL, removal, eviction, recovery from peers. One job a timeline at a time, and a bounded number of
 * them in all. A job that fails is tried again later, after longer and longer pauses; it never hurts the timeline.
 */
import { errorKind, errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { evict, isEvictable } from './eviction.js';
import { donorFor, recoverFromPeer } from './peer-recovery.js';
import type { Timeline } from './timeline.js';
import type { Timelines } from './timelines.js';
import { backUpPartial, backUpSegments, isBackupWanted, isPartialWanted, isUploader } from './wal-backup.js';
import type { WalObjects } from './wal-objects.js';

/** Each may hold three segments in memory. */
const JOBS_AT_ONCE = 5;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 60_000;
/** Peers that are idle do not speak by themselves: each timeline asks them now and then, a few of them at once. */
const ASK_INTERVAL_MS = 30_000;
const ASKED_AT_ONCE = 20;
/** The elected uploader had so long; from then on whoever has the WAL uploads it. */
const STALLED_MS = 30_000;

export interface UpkeepOptions {
  readonly timelines: Timelines;
  readonly objects: WalObjects | null;
  readonly intervalMs: number;
  readonly partialTimeoutMs: number;
  readonly evictionMinResidentMs: number;
  readonly lagBytesMax: number;
  readonly offloaderLagBytesMax: number;
  readonly peerRecovery: boolean;
  /** Asks peers to say what they have of a timeline. */
  readonly ask: (ttid: TenantTimelineId) => Promise<void>;
}

interface Memory {
  busy: boolean;
  failures: number;
  notBeforeMs: number;
  /** When the next partial upload is due. */
  partialDueMs: number;
  askDueMs: number;
  /** Since when whole segments have been waiting with this backup position. */
  waitingSinceMs: number;
  waitingAtLsn: number;
}

export class Upkeep {
  private readonly options: UpkeepOptions;
  private readonly memory = new WeakMap<Timeline, Memory>();
  private readonly running = new Set<Promise<void>>();
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;

  constructor(options: UpkeepOptions) {
    this.options = options;
  }

  start(): void {
    this.timer = setInterval(() => this.tick(), this.options.intervalMs);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    if (this.timer !== null) clearInterval(this.timer);
    await Promise.allSettled(this.running);
  }

  private tick(): void {
    const nowMs = performance.now();
    let asked = 0;
    for (const timeline of this.options.timelines.all()) {
      if (timeline.problem !== null) continue;
      this.remove(timeline);
      const memory = this.memoryOf(timeline, nowMs);
      if (nowMs >= memory.askDueMs && asked < ASKED_AT_ONCE) {
        asked += 1;
        memory.askDueMs = nowMs + ASK_INTERVAL_MS;
        // Without a broker there is nothing to learn.
        this.options.ask(timeline.ttid).catch(() => undefined);
      }
      if (memory.busy || nowMs < memory.notBeforeMs || this.running.size >= JOBS_AT_ONCE) continue;
      const job = this.jobFor(timeline, memory, nowMs);
      if (job !== null) this.launch(timeline, memory, job);
    }
  }

  /** Without an object store the backup position stays, and everything with it. */
  private remove(timeline: Timeline): void {
    const { lagBytesMax } = this.options;
    if (timeline.canRemove(lagBytesMax)) {
      timeline.submit({ kind: 'remove-wal', keepFrom: timeline.oldestReaderLsn, lagBytesMax });
    }
  }

  private jobFor(timeline: Timeline, memory: Memory, nowMs: number): (() => Promise<void>) | null {
    const { objects, partialTimeoutMs, evictionMinResidentMs, offloaderLagBytesMax } = this.options;
    const donor = this.options.peerRecovery ? donorFor(timeline) : null;
    if (donor !== null) return () => recoverFromPeer(timeline, donor);
    if (objects === null || timeline.isEvicted) return null;
    if (isBackupWanted(timeline)) {
      const { backupLsn } = timeline.view.control;
      if (memory.waitingAtLsn !== backupLsn) Object.assign(memory, { waitingAtLsn: backupLsn, waitingSinceMs: nowMs });
      const mayUpload = (): boolean =>
        !this.stopped &&
        (isUploader(timeline, offloaderLagBytesMax) || performance.now() - memory.waitingSinceMs > STALLED_MS);
      if (mayUpload()) return () => backUpSegments(timeline, objects, mayUpload);
    }
    const isIdle = timeline.proposerCount === 0 && timeline.readerCount === 0;
    const isEvictionDue = isIdle && nowMs - timeline.lastUsedMs >= evictionMinResidentMs;
    if (isPartialWanted(timeline) && (nowMs >= memory.partialDueMs || isEvictionDue)) {
      memory.partialDueMs = nowMs + partialTimeoutMs;
      return () => backUpPartial(timeline, objects);
    }
    return isEvictionDue && isEvictable(timeline) ? () => evict(timeline) : null;
  }

  private launch(timeline: Timeline, memory: Memory, job: () => Promise<void>): void {
    memory.busy = true;
    const run = job()
      .then(
        () => {
          memory.failures = 0;
        },
        (error: unknown) => {
          memory.failures += 1;
          memory.notBeforeMs = performance.now() + Math.min(PAUSE_MS * 2 ** (memory.failures - 1), PAUSE_MS_MAX);
          // Somebody came to use it, or it was closed: no trouble.
          const level = errorKind(error) === 'precondition' || this.stopped ? 'debug' : 'warn';
          timeline.log[level]({ reason: errorText(error), failures: memory.failures }, 'could not do upkeep of WAL');
        },
      )
      .finally(() => {
        memory.busy = false;
        this.running.delete(run);
      });
    this.running.add(run);
  }

  private memoryOf(timeline: Timeline, nowMs: number): Memory {
    let memory = this.memory.get(timeline);
    if (memory === undefined) {
      // Spread, so that not all timelines of a node that started come at once.
      const partialDueMs = nowMs + this.options.partialTimeoutMs * (0.5 + Math.random() / 2);
      const due = { notBeforeMs: 0, partialDueMs, askDueMs: nowMs };
      memory = { busy: false, failures: 0, ...due, waitingSinceMs: nowMs, waitingAtLsn: -1 };
      this.memory.set(timeline, memory);
    }
    return memory;
  }
}
