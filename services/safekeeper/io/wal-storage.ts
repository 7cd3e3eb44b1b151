/**
 * The WAL of one timeline on disk: positional writes into segment files, one sync for many writes, truncation, finding the end after
 * a crash. Knows bytes and segments; what may be written when is the acceptor's business.
 *
 * Invariants: bytes behind what was written are zeros; a complete segment is durable; segments below the end exist without gaps.
 * One caller at a time. After an error the object must not be used further: what is on disk is found out by a new one.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsn, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import { drainRecords } from '#shared/postgres/wal-end.js';
import { segmentNumber, segmentOffset } from '#shared/postgres/wal-layout.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { segmentPrefix } from '#shared/postgres/wal-synthesis.js';
import type { Disk, DiskFile } from './disk.js';
import { SegmentFiles } from './segment-files.js';

const READ_BYTES = 1 << 20;

export interface WalStorageCounters {
  writtenBytes: number;
  writes: number;
  syncs: number;
  syncSeconds: number;
  segmentsCreated: number;
  segmentsRemoved: number;
}

export function newWalStorageCounters(): WalStorageCounters {
  return { writtenBytes: 0, writes: 0, syncs: 0, syncSeconds: 0, segmentsCreated: 0, segmentsRemoved: 0 };
}

interface Growing {
  readonly segno: number;
  readonly file: DiskFile;
}

export class WalStorage {
  readonly segSize: number;
  private readonly files: SegmentFiles;
  private readonly counters: WalStorageCounters;
  /** The segment last written to. */
  private growing: Growing | null = null;
  private dirty = false;

  constructor(options: { disk: Disk; dir: string; segSize: number; counters: WalStorageCounters }) {
    this.segSize = options.segSize;
    this.files = new SegmentFiles(options.disk, options.dir, options.segSize);
    this.counters = options.counters;
  }

  /**
   * End of the last whole record, looked for from `from` on, a position known to be committed. All WAL up to there is durable when
   * this returns: what a killed process wrote may still be in memory only. Throws `corrupt` when the segment of `from` is missing.
   */
  async findEnd(from: Lsn): Promise<Lsn> {
    await this.files.removeLeftovers();
    if (from === INVALID_LSN) return INVALID_LSN;
    const reader = this.reader();
    try {
      // A truncation that was broken off leaves a segment that ends at `from`; but it leaves one.
      if (segmentOffset(from, this.segSize) > 0 && !(await reader.has(from))) {
        throw new StorageError('corrupt', `the WAL segment of committed position ${formatLsn(from)} is missing`);
      }
      // Whatever an append accepted must be found again, so no more is asked of records than there: the first of each leader may
      // name any predecessor. Stale records cannot follow, since everything behind the end is zeros.
      const decoder = new WalStreamDecoder({
        startLsn: from,
        segSize: this.segSize,
        parseBlocks: false,
        checkPrev: false,
      });
      const buffer = Buffer.alloc(READ_BYTES);
      for (let count = 1; count > 0;) {
        count = await reader.read(decoder.inputLsn, buffer);
        decoder.feed(buffer.subarray(0, count));
        if (drainRecords(decoder) !== null) break;
      }
      const endLsn = decoder.recordEndLsn;
      await this.makeDurable(from, endLsn);
      return endLsn;
    } finally {
      await reader.close();
    }
  }

  private async makeDurable(from: Lsn, end: Lsn): Promise<void> {
    for (let segno = segmentNumber(from, this.segSize); segno <= segmentNumber(end, this.segSize); segno++) {
      const file = await this.files.openForRead(segno);
      await file?.sync();
      await file?.close();
    }
    await this.files.syncDir();
  }

  /** Begins a log at `at`, with page headers before it in its segment. Drops any log that is there. */
  async start(at: Lsn, systemId: bigint): Promise<void> {
    await this.closeGrowing();
    await this.files.removeFrom(0);
    if (segmentOffset(at, this.segSize) === 0) return;
    const file = await this.create(segmentNumber(at, this.segSize));
    for (const piece of segmentPrefix({ lsn: at, systemId, segSize: this.segSize })) {
      await file.write([piece.bytes], piece.offset);
    }
    await file.sync();
  }

  /** Writes contiguous pieces at `at`. Complete segments are made durable on the way; the rest waits for `sync`. */
  async write(at: Lsn, pieces: readonly Uint8Array[]): Promise<void> {
    let position = at;
    for (const group of splitAtSegments(at, pieces, this.segSize)) {
      const segno = segmentNumber(position, this.segSize);
      const file = await this.fileFor(segno, segmentOffset(position, this.segSize));
      await file.write(group.pieces, segmentOffset(position, this.segSize));
      this.dirty = true;
      this.counters.writes += 1;
      this.counters.writtenBytes += group.bytes;
      position = lsn(position + group.bytes);
      const offset = segmentOffset(position, this.segSize);
      if (offset === 0) await this.completeGrowing();
      else if (offset > this.segSize / 2) this.files.prepareSpare();
    }
  }

  async sync(): Promise<void> {
    if (!this.dirty) return;
    const began = performance.now();
    await this.growing?.file.sync();
    this.counters.syncs += 1;
    this.counters.syncSeconds += (performance.now() - began) / 1000;
    this.dirty = false;
  }

  /** Drops everything from `to` on, durably: later segments go first, then the tail of the segment becomes zeros. */
  async truncate(to: Lsn): Promise<void> {
    await this.closeGrowing();
    const segno = segmentNumber(to, this.segSize);
    const offset = segmentOffset(to, this.segSize);
    await this.files.removeFrom(offset === 0 ? segno : segno + 1);
    if (offset > 0) {
      const file = await this.files.openForWrite(segno);
      if (file === null) throw new StorageError('corrupt', `the WAL segment of ${formatLsn(to)} is missing`);
      this.growing = { segno, file };
      await file.truncate(offset);
      await file.truncate(this.segSize);
      await file.sync();
    }
  }

  /** Removes whole segments below, durably; MAX_LSN = all. */
  async removeBelow(below: Lsn): Promise<void> {
    if (below === MAX_LSN) await this.closeGrowing();
    const segno = below === MAX_LSN ? Infinity : segmentNumber(below, this.segSize);
    this.counters.segmentsRemoved += await this.files.removeBelow(segno);
  }

  /** Puts back the segment that ends an evicted log, durably: its bytes up to the end of WAL. Drops any WAL that is there. */
  async restore(segno: number, bytes: Uint8Array): Promise<void> {
    await this.closeGrowing();
    await this.files.removeFrom(0);
    const file = await this.create(segno);
    await file.write([bytes], 0);
    await file.sync();
  }

  reader(): WalFileReader {
    return new WalFileReader(this.files);
  }

  async close(): Promise<void> {
    await this.closeGrowing();
    await this.files.close();
  }

  private async fileFor(segno: number, offset: number): Promise<DiskFile> {
    if (this.growing?.segno === segno) return this.growing.file;
    await this.closeGrowing();
    if (offset === 0) return this.create(segno);
    const file = await this.files.openForWrite(segno);
    if (file === null) throw new StorageError('corrupt', `WAL segment ${segno} is missing`);
    this.growing = { segno, file };
    return file;
  }

  private async create(segno: number): Promise<DiskFile> {
    const file = await this.files.create(segno);
    this.growing = { segno, file };
    this.counters.segmentsCreated += 1;
    return file;
  }

  private async completeGrowing(): Promise<void> {
    await this.sync();
    const { growing } = this;
    await this.closeGrowing();
    if (growing !== null) await this.files.complete(growing.segno);
  }

  private async closeGrowing(): Promise<void> {
    const { growing } = this;
    this.growing = null;
    this.dirty = false;
    await growing?.file.close();
  }
}

/** Reads WAL below a position that the caller knows to be written. Keeps the segment of its last read open. */
export class WalFileReader {
  private readonly files: SegmentFiles;
  private open: { readonly segno: number; readonly file: DiskFile } | null = null;

  constructor(files: SegmentFiles) {
    this.files = files;
  }

  /** Fills `into` from `at` on, at most to the end of the segment. Returns how many bytes there were; 0 = no such segment. */
  async read(at: Lsn, into: Uint8Array): Promise<number> {
    const { segSize } = this.files;
    const file = await this.fileOf(at);
    const offset = segmentOffset(at, segSize);
    return (await file?.read(into.subarray(0, Math.min(into.length, segSize - offset)), offset)) ?? 0;
  }

  /** Whether there is a segment for this position. */
  async has(at: Lsn): Promise<boolean> {
    return (await this.fileOf(at)) !== null;
  }

  private async fileOf(at: Lsn): Promise<DiskFile | null> {
    const segno = segmentNumber(at, this.files.segSize);
    if (this.open?.segno === segno) return this.open.file;
    await this.close();
    const file = await this.files.openForRead(segno);
    this.open = file === null ? null : { segno, file };
    return file;
  }

  async close(): Promise<void> {
    const { open } = this;
    this.open = null;
    await open?.file.close();
  }
}

interface PieceGroup {
  readonly pieces: Uint8Array[];
  bytes: number;
}

/** Cuts pieces where segments end; each group lies in one segment. Shares memory. */
export function splitAtSegments(at: Lsn, pieces: readonly Uint8Array[], segSize: number): PieceGroup[] {
  const groups: PieceGroup[] = [];
  let room = 0;
  let position = at;
  for (let piece of pieces) {
    while (piece.length > 0) {
      if (room === 0) {
        groups.push({ pieces: [], bytes: 0 });
        room = segSize - segmentOffset(position, segSize);
      }
      const part = piece.subarray(0, Math.min(room, piece.length));
      const group = groups.at(-1) as PieceGroup;
      group.pieces.push(part);
      group.bytes += part.length;
      room -= part.length;
      position = lsn(position + part.length);
      piece = piece.subarray(part.length);
    }
  }
  return groups;
}
