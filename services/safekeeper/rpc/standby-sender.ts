/**
 * Streams committed WAL to one standby over the Postgres replication protocol, and takes what it reports. A piece of WAL is read only
 * when the socket has room for it, so a standby that does not read costs one piece of memory.
 */
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, lsnMin, type Lsn } from '#shared/core/lsn.js';
import { XLOG_BLCKSZ, segmentStart } from '#shared/postgres/wal-layout.js';
import type { CopyHandler, WireSession } from '#shared/postgres/wire/server-session.js';
import { keepalive, parseStandbyMessage, walHeader } from '../core/standby-messages.js';
import type { Timeline } from '../io/timeline.js';
import type { TimelineReader } from '../io/timeline-reader.js';

/** As much as Postgres' own walsender puts into one message. */
const PIECE_BYTES_MAX = 16 * XLOG_BLCKSZ;
const KEEPALIVE_INTERVAL_MS = 1_000;
/** As Postgres' wal_sender_timeout: a standby answers keepalives. */
const SILENCE_MS_MAX = 60_000;

export class StandbySender implements CopyHandler {
  private readonly session: WireSession;
  private readonly timeline: Timeline;
  private readonly reader: TimelineReader;
  private readonly stopping: AbortSignal;
  private readonly stop = new AbortController();
  private readonly onSent: (bytes: number) => void;
  private position: Lsn;
  private heardMs = performance.now();
  private endWanted = false;
  private wake: (() => void) | null = null;

  private constructor(options: StandbySenderOptions, reader: TimelineReader) {
    this.session = options.session;
    this.timeline = options.timeline;
    this.stopping = options.stopping;
    this.onSent = options.onSent;
    this.position = options.startLsn;
    this.reader = reader;
  }

  /** Throws StorageError `not-found` when WAL at the position is not here. */
  static start(options: StandbySenderOptions): StandbySender {
    const { timeline, startLsn } = options;
    const { localStartLsn, segSize } = timeline.view.control;
    // Standbys ask from the start of a segment on. What lies there before the timeline's own WAL are page headers around zeros.
    if (startLsn < segmentStart(localStartLsn, segSize)) {
      const [wanted, first] = [formatLsn(startLsn), formatLsn(localStartLsn)];
      throw new StorageError('not-found', `WAL at ${wanted} is not here; it begins at ${first}`);
    }
    const sender = new StandbySender(options, timeline.openReader());
    timeline.standbys.add(sender.reader.id);
    return sender;
  }

  /** To be called once the session is in COPY. */
  run(): void {
    const { reader, timeline } = this;
    const log = timeline.log.child({ reader: reader.id });
    log.info(
      { startLsn: formatLsn(this.position), standbys: timeline.standbys.count },
      'started streaming to a standby',
    );
    void this.send()
      .then(
        () => {
          if (!this.endWanted) return;
          this.session.endCopy('START_REPLICATION');
        },
        (error: unknown) => {
          log.info({ reason: errorText(error) }, 'ended a standby’s stream');
          this.session.fail(error);
        },
      )
      .finally(async () => {
        timeline.standbys.remove(reader.id);
        timeline.announce();
        await reader.close();
        log.info({ endLsn: formatLsn(this.position) }, 'stopped streaming to a standby');
      });
  }

  data(buffer: Buffer, start: number, end: number): boolean {
    const message = parseStandbyMessage(buffer, start, end);
    this.heardMs = performance.now();
    const { standbys } = this.timeline;
    if (message.kind === 'feedback') {
      if (standbys.putXmin(this.reader.id, message.xmin)) this.timeline.announce();
    } else {
      standbys.putPositions(this.reader.id, message.positions);
      if (message.replyWanted) this.session.write(this.keepalive(false));
    }
    return true;
  }

  done(): void {
    this.endWanted = true;
    this.stop.abort();
    this.wake?.();
  }

  closed(): void {
    this.stop.abort();
    this.wake?.();
  }

  /** The socket has room again. */
  drained(): void {
    this.wake?.();
  }

  private keepalive(replyWanted: boolean): Buffer {
    return keepalive(this.timeline.view.commitLsn, Date.now(), replyWanted);
  }

  private async send(): Promise<void> {
    const signal = AbortSignal.any([this.stop.signal, this.stopping]);
    let lastSentMs = performance.now();
    while (!signal.aborted) {
      this.reader.check();
      const nowMs = performance.now();
      if (nowMs - this.heardMs > SILENCE_MS_MAX) throw new StorageError('unavailable', 'the standby does not answer');
      const { commitLsn } = this.timeline.view;
      if (this.session.isSinkFull) {
        await this.room(signal);
      } else if (this.position < commitLsn) {
        await this.sendPiece(commitLsn);
        lastSentMs = performance.now();
      } else if (nowMs - lastSentMs >= KEEPALIVE_INTERVAL_MS) {
        this.session.write(this.keepalive(true));
        lastSentMs = nowMs;
      } else {
        await this.timeline.changes.wait(KEEPALIVE_INTERVAL_MS - (nowMs - lastSentMs), signal);
      }
    }
    if (this.stopping.aborted) throw new StorageError('unavailable', 'the safekeeper is shutting down');
  }

  private async sendPiece(commitLsn: Lsn): Promise<void> {
    const whole = this.position + PIECE_BYTES_MAX;
    // Cut at a page boundary, so that the standby writes whole pages.
    const to = lsnMin(commitLsn, lsn(whole - (whole % XLOG_BLCKSZ)));
    const bytes = await this.reader.read(this.position, to);
    const options = { startLsn: this.position, endLsn: commitLsn, walBytes: bytes.length, nowMs: Date.now() };
    this.session.writeAll([walHeader(options), bytes]);
    this.position = lsn(this.position + bytes.length);
    this.onSent(bytes.length);
  }

  /** Resolves when the socket has room, or after a second. */
  private async room(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, KEEPALIVE_INTERVAL_MS);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (signal.aborted) this.wake();
    });
    this.wake = null;
  }
}

export interface StandbySenderOptions {
  readonly session: WireSession;
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly stopping: AbortSignal;
  /** Called with the WAL bytes of each message. */
  readonly onSent: (bytes: number) => void;
}
