/**
 * The newest part of the WAL stream, in memory, in blocks of 1 MiB; what is older is dropped. Safekeepers that keep up are served from
 * here. It is only a cache: Postgres keeps everything that is not committed yet in its own pg_wal.
 *
 * Blocks are never written twice, so a piece that was handed out stays valid for as long as somebody holds it.
 */
import { assert } from '#shared/core/assert.js';
import type { Lsn } from '#shared/core/lsn.js';

const BLOCK_BYTES = 1 << 20;

export class WalWindow {
  /** First byte of the first block. */
  private base: Lsn;
  private blocks: Uint8Array[] = [];
  private readonly blockCountMax: number;
  endLsn: Lsn;

  constructor(startLsn: Lsn, capacityBytes: number) {
    this.base = startLsn;
    this.endLsn = startLsn;
    this.blockCountMax = Math.max(1, Math.ceil(capacityBytes / BLOCK_BYTES));
  }

  /** Oldest byte that can still be read. */
  get startLsn(): Lsn {
    return this.base;
  }

  /** Copies `bytes`, which must continue the stream. */
  append(beginLsn: Lsn, bytes: Uint8Array): void {
    assert(beginLsn === this.endLsn, () => `WAL of ${beginLsn} does not continue ${this.endLsn}`);
    for (let done = 0; done < bytes.length;) {
      const offset = (this.endLsn - this.base) % BLOCK_BYTES;
      const index = (this.endLsn - this.base - offset) / BLOCK_BYTES;
      if (index === this.blocks.length) this.blocks.push(Buffer.allocUnsafeSlow(BLOCK_BYTES));
      const count = Math.min(BLOCK_BYTES - offset, bytes.length - done);
      (this.blocks[index] as Uint8Array).set(bytes.subarray(done, done + count), offset);
      done += count;
      this.endLsn = (this.endLsn + count) as Lsn;
    }
    while (this.blocks.length > this.blockCountMax) {
      this.blocks.shift();
      this.base = (this.base + BLOCK_BYTES) as Lsn;
    }
  }

  /** A view of bytes from `fromLsn` on, at least one and below `endLsn`; null when they are not here. */
  read(fromLsn: Lsn, endLsn: Lsn): Uint8Array | null {
    if (fromLsn < this.base || fromLsn >= this.endLsn) return null;
    const offset = (fromLsn - this.base) % BLOCK_BYTES;
    const block = this.blocks[(fromLsn - this.base - offset) / BLOCK_BYTES] as Uint8Array;
    const end = Math.min(endLsn, this.endLsn) - fromLsn;
    return block.subarray(offset, Math.min(BLOCK_BYTES, offset + end));
  }
}
