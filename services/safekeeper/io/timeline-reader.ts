/** One reader of a timeline's WAL: from memory while it keeps up, else from the files, else from the object store. */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import type { Timeline } from './timeline.js';
import type { WalFileReader } from './wal-storage.js';

/** One request to the object store for so much, since each costs a round trip; readers go forward. */
const FETCH_BYTES = 4 << 20;

export class TimelineReader {
  readonly id: number;
  private readonly timeline: Timeline;
  private readonly files: WalFileReader;
  private readonly onClose: () => void;
  /** Where it reads: WAL from here on stays on disk, within a bound. */
  position: Lsn = MAX_LSN;
  private failure: StorageError | null = null;
  /** What was fetched from the object store ahead of the reader. */
  private fetched: { readonly at: Lsn; readonly bytes: Buffer } | null = null;

  constructor(timeline: Timeline, id: number, files: WalFileReader, onClose: () => void) {
    this.timeline = timeline;
    this.id = id;
    this.files = files;
    this.onClose = onClose;
  }

  /** WAL of [from, to), or its beginning. `to` must not be above what the timeline's view shows as written. */
  async read(from: Lsn, to: Lsn): Promise<Buffer> {
    this.check();
    this.position = from;
    const pieces = this.timeline.tail.read(from, to);
    if (pieces !== null) {
      const only = pieces.length === 1 ? pieces[0] : undefined;
      return only === undefined ? Buffer.concat(pieces) : Buffer.from(only.buffer, only.byteOffset, only.length);
    }
    const buffer = Buffer.allocUnsafe(to - from);
    const count = await this.files.read(from, buffer);
    this.check();
    return count === 0 ? this.readRemote(from, to) : buffer.subarray(0, count);
  }

  private async readRemote(from: Lsn, to: Lsn): Promise<Buffer> {
    const { objects, view } = this.timeline;
    const { control } = view;
    if (objects === null || from >= control.backupLsn) {
      const kind = this.timeline.isEvicted ? 'unavailable' : 'not-found';
      throw new StorageError(kind, `WAL at ${formatLsn(from)} is not here`);
    }
    let { fetched } = this;
    if (fetched === null || from < fetched.at || from >= fetched.at + fetched.bytes.length) {
      const bytes = await objects.read(control, from, lsn(from + FETCH_BYTES));
      fetched = { at: from, bytes };
      this.fetched = fetched;
      this.check();
    }
    return fetched.bytes.subarray(from - fetched.at, to - fetched.at);
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
