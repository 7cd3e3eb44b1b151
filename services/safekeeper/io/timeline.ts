/**
 * One timeline of this safekeeper: the acceptor with its disk. Owns the serial queue: inputs are taken one at a time, in order; the
 * effects of each are done before the next, and one sync serves all appends that queued meanwhile.
 *
 * `view` shows only what is durable. When an effect fails, everybody connected is told, and the timeline is read back from disk;
 * meanwhile it is unavailable.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { errorText, StorageError, wrapError } from '#shared/core/errors.js';
import { formatTtid, type TenantTimelineId } from '#shared/core/ids.js';
import { INVALID_LSN, lsnMin, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import { acceptorLastLogTerm, step } from '../core/acceptor.js';
import type { AcceptorEffect, AcceptorInput, AcceptorState, ControlState } from '../core/acceptor-types.js';
import { removalHorizon } from '../core/horizon.js';
import { PeerBook } from '../core/peer-book.js';
import { FeedbackBook, type PageserverFeedback } from '../core/feedback.js';
import { StandbyBook } from '../core/standby-book.js';
import { WalTail } from '../core/wal-tail.js';
import { ChangeSignal } from './change-signal.js';
import { restoreEvicted } from './eviction.js';
import { ProposerConnection, type ProposerSink } from './proposer-connection.js';
import { TimelineDisk, type TimelineDiskOptions } from './timeline-disk.js';
import { TimelineReader } from './timeline-reader.js';
import type { WalObjects } from './wal-objects.js';
import type { WalFileReader } from './wal-storage.js';

/** Enough for readers that are a few round trips behind; those further behind read the files, which are in the page cache. */
const TAIL_BYTES_MAX = 4 << 20;
/** New feedback reaches proposers no more often than this. */
const ANNOUNCE_INTERVAL_MS = 20;
const RELOAD_DELAY_MS = 1_000;
const RELOAD_DELAY_MS_MAX = 30_000;

export interface TimelineView {
  readonly control: ControlState;
  readonly lastLogTerm: number;
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
}

export interface TimelineOptions extends TimelineDiskOptions {
  readonly log: Logger;
  /** Null: there is no object store, and all WAL stays on disk. */
  readonly objects?: WalObjects | null;
  /** Called whenever the view may have changed; must return at once. */
  readonly onChange?: (timeline: Timeline) => void;
}

interface Queued {
  readonly connection: ProposerConnection | null;
  readonly input: AcceptorInput;
  /** Somebody waits for the effects. */
  readonly waiter?: Waiter;
}

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

type Phase = 'active' | 'failed' | 'closed';

export class Timeline {
  readonly ttid: TenantTimelineId;
  readonly log: Logger;
  /** Notified whenever the view or the feedback may have changed. */
  readonly changes = new ChangeSignal();
  readonly feedback = new FeedbackBook();
  readonly standbys = new StandbyBook();
  readonly peers = new PeerBook();
  /** When the last proposer or reader left, or the timeline was opened; monotonic clock. */
  lastUsedMs = performance.now();
  readonly tail = new WalTail(TAIL_BYTES_MAX);
  private readonly options: TimelineOptions;
  private disk: TimelineDisk;
  private acceptor: AcceptorState;
  private phase: Phase = 'active';
  /** What ended the last active phase. */
  private failure = new StorageError('unavailable', 'the timeline is not open');
  private current: TimelineView;
  private queue: Queued[] = [];
  private pumping: Promise<void> | null = null;
  private readonly connections = new Map<number, ProposerConnection>();
  private readonly readers = new Set<TimelineReader>();
  private readonly waiters = new Set<Waiter>();
  private restoring: Promise<void> | null = null;
  private lastId = 0;
  private announceTimer: NodeJS.Timeout | null = null;
  private reloadTimer: NodeJS.Timeout | null = null;

  private constructor(options: TimelineOptions, disk: TimelineDisk, acceptor: AcceptorState) {
    this.options = options;
    this.disk = disk;
    this.acceptor = acceptor;
    this.ttid = acceptor.control.ttid;
    this.log = options.log.child({ tenant: this.ttid.tenantId, timeline: this.ttid.timelineId });
    this.current = viewOf(acceptor);
  }

  /** Throws `not-found` or `corrupt`. */
  static async open(options: TimelineOptions): Promise<Timeline> {
    const { disk, acceptor } = await TimelineDisk.open(options);
    return new Timeline(options, disk, acceptor);
  }

  get view(): TimelineView {
    return this.current;
  }

  get proposerCount(): number {
    return this.connections.size;
  }

  get readerCount(): number {
    return this.readers.size;
  }

  get dir(): string {
    return this.disk.dir;
  }

  get nodeId(): number {
    return this.options.nodeId;
  }

  get objects(): WalObjects | null {
    return this.options.objects ?? null;
  }

  /** Why it does not work at present; null: it works. */
  get problem(): StorageError | null {
    return this.phase === 'active' ? null : this.failure;
  }

  get isEvicted(): boolean {
    return this.current.control.evictedLsn !== INVALID_LSN;
  }

  /** First WAL that a reader can have: with an object store, all of it. */
  get readableFrom(): Lsn {
    const { timelineStartLsn, localStartLsn } = this.current.control;
    return this.objects === null ? localStartLsn : timelineStartLsn;
  }

  /** The reader that is furthest behind is here. */
  get oldestReaderLsn(): Lsn {
    return [...this.readers].reduce<Lsn>((oldest, reader) => lsnMin(oldest, reader.position), MAX_LSN);
  }

  /** Brings the WAL of an evicted timeline back to disk; before `connect` and `openReader`. */
  async ensureResident(): Promise<void> {
    this.checkActive();
    if (!this.isEvicted) return;
    this.restoring ??= restoreEvicted(this, (at, bytes) => this.disk.restore(at, bytes)).finally(() => {
      this.restoring = null;
    });
    await this.restoring;
  }

  /** Whether a removal might find something; the acceptor decides. */
  canRemove(lagBytesMax: number): boolean {
    const horizon = removalHorizon(this.acceptor.persisted, { keepFrom: this.oldestReaderLsn, lagBytesMax });
    return !this.isEvicted && horizon > this.acceptor.removedLsn;
  }

  /** Reads what is on disk; sees neither the object store nor what happens to the timeline. Close it. */
  openFiles(): WalFileReader {
    this.checkActive();
    return this.disk.reader();
  }

  /** Throws `unavailable` while the timeline is being read back, or once it is closed. */
  connect(sink: ProposerSink): ProposerConnection {
    this.checkActive();
    const connection = new ProposerConnection({
      id: ++this.lastId,
      sink,
      enqueue: (from, input) => this.enqueue({ connection: from, input }),
      leave: (from) => {
        this.connections.delete(from.id);
        this.lastUsedMs = performance.now();
        this.enqueue({ connection: null, input: { kind: 'disconnect', connection: from.id } });
      },
    });
    this.connections.set(connection.id, connection);
    return connection;
  }

  openReader(): TimelineReader {
    this.checkActive();
    const reader: TimelineReader = new TimelineReader(this, ++this.lastId, this.disk.reader(), () => {
      this.readers.delete(reader);
      this.lastUsedMs = performance.now();
      this.feedback.remove(reader.id);
      if (this.readers.size === 0) this.tail.clear();
    });
    this.readers.add(reader);
    return reader;
  }

  /** Inputs that come from no proposer: peers' infos, checkpoints. */
  submit(input: AcceptorInput): void {
    this.enqueue({ connection: null, input });
  }

  /** As `submit`; resolves when the effects are done, rejects when the input was refused or an effect failed. */
  run(input: AcceptorInput): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject };
      if (this.phase !== 'active') return reject(this.failure);
      this.waiters.add(waiter);
      this.enqueue({ connection: null, input, waiter });
    });
  }

  putFeedback(reader: number, feedback: PageserverFeedback): void {
    if (!this.feedback.put(reader, feedback)) return;
    if (feedback.remoteConsistentLsn > this.current.control.remoteConsistentLsn) {
      this.submit({ kind: 'feedback', remoteConsistentLsn: feedback.remoteConsistentLsn });
    }
    this.announce();
  }

  /** Tells proposers soon what readers and standbys said. */
  announce(): void {
    if (this.announceTimer !== null || this.connections.size === 0 || this.phase !== 'active') return;
    this.announceTimer = setTimeout(() => {
      this.announceTimer = null;
      this.submit({ kind: 'announce' });
    }, ANNOUNCE_INTERVAL_MS);
  }

  /** Finishes what is queued, writes the control file, closes files. Idempotent. */
  async close(): Promise<void> {
    if (this.phase === 'active') this.submit({ kind: 'checkpoint' });
    await this.pumping;
    this.stop('closed', new StorageError('unavailable', `timeline ${formatTtid(this.ttid)} was closed here`));
    await this.disk.close();
  }

  private checkActive(): void {
    if (this.phase === 'active') return;
    const why = this.phase === 'closed' ? 'is closed' : 'is being read back after a failure';
    const kind = this.failure.kind === 'exhausted' ? 'exhausted' : 'unavailable';
    throw new StorageError(kind, `timeline ${formatTtid(this.ttid)} ${why}`, { cause: this.failure });
  }

  private enqueue(queued: Queued): void {
    if (this.phase !== 'active') return;
    this.queue.push(queued);
    this.pumping ??= this.pump();
  }

  private async pump(): Promise<void> {
    // Give what arrives in the same turn of the event loop a chance to join the first batch.
    await Promise.resolve();
    try {
      while (this.queue.length > 0 && this.phase === 'active') {
        const batch = this.queue;
        this.queue = [];
        await this.process(batch);
        this.publish();
      }
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      this.fail(error);
    } finally {
      this.pumping = null;
    }
  }

  private async process(batch: readonly Queued[]): Promise<void> {
    for (const { connection, input, waiter } of batch) {
      connection?.taken();
      if (connection?.hasFailed === true) continue;
      let effects: AcceptorEffect[];
      try {
        effects = step(this.acceptor, input);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        if (waiter === undefined) this.log.warn({ kind: input.kind, reason: errorText(error) }, 'refused a message');
        connection?.fail(error);
        this.settle(waiter, error);
        continue;
      }
      await this.perform(effects);
      if (waiter !== undefined) this.publish();
      this.settle(waiter, null);
    }
    await this.perform(step(this.acceptor, { kind: 'flush' }));
  }

  private async perform(effects: readonly AcceptorEffect[]): Promise<void> {
    for (const effect of effects) {
      if (effect.kind === 'reply') {
        this.connections.get(effect.connection)?.reply(effect.reply);
        continue;
      }
      await this.disk.perform(effect, this.acceptor.flushLsn);
      if (effect.kind === 'write-wal' && this.readers.size > 0) this.tail.append(effect.at, effect.bytes);
      if (effect.kind === 'truncate-wal' || effect.kind === 'start-wal') this.tail.clear();
    }
  }

  private settle(waiter: Waiter | undefined, error: StorageError | null): void {
    if (waiter === undefined || !this.waiters.delete(waiter)) return;
    if (error === null) waiter.resolve();
    else waiter.reject(error);
  }

  private publish(): void {
    this.current = viewOf(this.acceptor);
    this.changes.notify();
    this.options.onChange?.(this);
  }

  private fail(cause: unknown): void {
    this.log.error({ err: cause }, 'timeline failed, reading it back from disk');
    this.stop('failed', wrapError(`timeline ${formatTtid(this.ttid)} failed on disk`, unavailable(cause)));
    this.scheduleReload(RELOAD_DELAY_MS);
  }

  private stop(phase: Phase, error: StorageError): void {
    this.phase = phase;
    this.failure = error;
    this.queue = [];
    for (const waiter of this.waiters) this.settle(waiter, error);
    if (this.announceTimer !== null) clearTimeout(this.announceTimer);
    this.announceTimer = null;
    if (this.reloadTimer !== null) clearTimeout(this.reloadTimer);
    this.reloadTimer = null;
    const connections = [...this.connections.values()];
    this.connections.clear();
    for (const connection of connections) connection.fail(error);
    for (const reader of [...this.readers]) reader.fail(error);
    this.tail.clear();
    this.changes.notify();
  }

  private scheduleReload(delayMs: number): void {
    this.reloadTimer = setTimeout(() => {
      this.reloadTimer = null;
      this.reload().catch((error: unknown) => {
        this.log.error({ err: error }, 'timeline could not be read back');
        if (this.phase === 'failed') this.scheduleReload(Math.min(delayMs * 2, RELOAD_DELAY_MS_MAX));
      });
    }, delayMs);
  }

  /** What was acknowledged before is trusted; WAL beyond is not, since after a failed sync reading it back proves nothing. */
  private async reload(): Promise<void> {
    await this.disk.close().catch(() => undefined);
    const { disk, acceptor } = await TimelineDisk.open(this.options, this.disk.trustedLsn);
    if (this.phase !== 'failed') {
      await disk.close();
      return;
    }
    this.disk = disk;
    this.acceptor = acceptor;
    this.phase = 'active';
    this.publish();
    this.log.warn({ flushLsn: acceptor.flushLsn }, 'timeline was read back from disk');
  }
}

function viewOf(acceptor: AcceptorState): TimelineView {
  return {
    control: acceptor.control,
    lastLogTerm: acceptorLastLogTerm(acceptor),
    writeLsn: acceptor.writeLsn,
    flushLsn: acceptor.flushLsn,
    commitLsn: acceptor.control.commitLsn,
  };
}

/** To those outside, trouble with our disk passes; a full one says so. */
function unavailable(cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause;
  const code = (cause as NodeJS.ErrnoException | null)?.code;
  return new StorageError(code === 'ENOSPC' || code === 'EDQUOT' ? 'exhausted' : 'unavailable', errorText(cause), {
    cause,
  });
}
