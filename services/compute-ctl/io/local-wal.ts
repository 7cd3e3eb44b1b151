/**
 * Reads WAL from the compute's own pg_wal. Valid from the position where this compute started (what lies before it in its first
 * segment is synthesized) up to what Postgres has streamed.
 *
 * Postgres renames old segments to future names, and so may pull a file away under a reader: what was read counts only when the name
 * still leads to the same file afterwards and every page that begins in the piece carries its own address.
 */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import {
  pageOffset,
  readLsn,
  segmentName,
  segmentNumber,
  segmentOffset,
  XLOG_BLCKSZ,
} from '#shared/postgres/wal-layout.js';

const PAGE_ADDRESS_OFFSET = 8;

export class LocalWal {
  private readonly walDir: string;
  private readonly startLsn: Lsn;
  private readonly segSize: number;

  constructor(options: { walDir: string; startLsn: Lsn; segSize: number }) {
    this.walDir = options.walDir;
    this.startLsn = options.startLsn;
    this.segSize = options.segSize;
  }

  /** Bytes [fromLsn, endLsn), cut at the segment's end; null when they are not here any more, or never were. */
  async read(fromLsn: Lsn, endLsn: Lsn): Promise<Uint8Array | null> {
    if (fromLsn < this.startLsn) return null;
    const offset = segmentOffset(fromLsn, this.segSize);
    const bytes = Buffer.allocUnsafeSlow(Math.min(endLsn - fromLsn, this.segSize - offset));
    const path = join(this.walDir, segmentName(segmentNumber(fromLsn, this.segSize), this.segSize));
    try {
      await using file = await open(path, 'r');
      const { ino } = await file.stat();
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
      const now = await stat(path);
      return bytesRead === bytes.length && now.ino === ino && pagesMatch(fromLsn, bytes) ? bytes : null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }
}

/** Whether each page whose header begins in `bytes` says that it is the page at that position. */
function pagesMatch(fromLsn: Lsn, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const first = (XLOG_BLCKSZ - pageOffset(fromLsn)) % XLOG_BLCKSZ;
  for (let at = first; at + PAGE_ADDRESS_OFFSET + 8 <= bytes.length; at += XLOG_BLCKSZ) {
    if (readLsn(view, at + PAGE_ADDRESS_OFFSET) !== fromLsn + at && !isZeroPadding(bytes, at)) return false;
  }
  return true;
}

/** Behind an XLOG_SWITCH whole pages are zero up to the segment's end. */
function isZeroPadding(bytes: Uint8Array, at: number): boolean {
  return bytes.subarray(at, Math.min(at + XLOG_BLCKSZ, bytes.length)).every((byte) => byte === 0);
}
