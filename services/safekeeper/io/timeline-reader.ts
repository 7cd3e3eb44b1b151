/** One reader of a timeline's WAL: from memory while it keeps up, else from the files. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, type Lsn } from '#shared/core/lsn.js';
import type { Timeline } from './timeline.js';
import type { WalFileReader } from './wal-storage.js';

export class TimelineReader {
  readonly id: number;
  private readonly timeline: Timeline;
  private readonly files: WalFileReader;
  private readonly onClose: () => void;
  private failure: StorageError | null = null;

  constructor(timeline: Timeline, id: number, files: WalFileReader, onClose: () => void) {
    this.timeline = timeline;
    this.id = id;
    this.files = files;
    this.onClose = onClose;
  }

  /** WAL of [from, to), or its beginning. `to` must not be above what the timeline's view shows as written. */
  async read(from: Lsn, to: Lsn): Promise<Buffer> {
    this.check();
    const pieces = this.timeline.tail.read(from, to);
    if (pieces !== null) {
      const only = pieces.length === 1 ? pieces[0] : undefined;
      return only === undefined ? Buffer.concat(pieces) : Buffer.from(only.buffer, only.byteOffset, only.length);
    }
    const buffer = Buffer.allocUnsafe(to - from);
    const count = await this.files.read(from, buffer);
    this.check();
    if (count === 0) throw new StorageError('not-found', `WAL at ${formatLsn(lsn(from))} is not here`);
    return buffer.subarray(0, count);
  }

  /** Throws what ended the reader. */
  check(): void {
    if (this.failure !== null) throw this.failure;
  }

  fail(error: StorageError): void {
    this.failure ??= error;
  }

  async close(): Promise<void> {
    this.onClose();
    await this.files.close();
  }
}
