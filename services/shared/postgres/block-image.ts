/** Restores full-page images from WAL records: decompresses, and puts the hole (zeros between line pointers and tuples) back. */
import { StorageError } from '../core/errors.js';
import { formatLsn } from '../core/lsn.js';
import { decompressLz4, decompressPglz, decompressZstd } from './decompress.js';
import type { WalRecord } from './wal-record.js';

const BLCKSZ = 8192;
const scratch = new Uint8Array(BLCKSZ);

const DECOMPRESS = [null, decompressPglz, decompressLz4, decompressZstd] as const;

/** Writes the 8192 bytes of the block's image to `out`. Throws `corrupt` on damage, `invalid` when the block has no image. */
export function blockImage(record: WalRecord, blockId: number, out: Uint8Array): void {
  if (blockId > record.maxBlockId || record.blockPresent[blockId] === 0 || record.blockHasImage[blockId] === 0) {
    throw new StorageError('invalid', `WAL record at ${formatLsn(record.startLsn)} has no image of block ${blockId}`);
  }
  const stored = record.imageLength[blockId]!;
  const start = record.imageOffset[blockId]!;
  const holeOffset = record.imageHoleOffset[blockId]!;
  const holeLength = record.imageHoleLength[blockId]!;
  const plainLength = BLCKSZ - holeLength;
  const decompress = DECOMPRESS[record.imageCompression[blockId]!];
  let from = record.bytes;
  let at = start;
  if (decompress) {
    // Without a hole the image can be unpacked in place.
    from = holeLength === 0 ? out : scratch;
    at = 0;
    try {
      decompress(record.bytes, start, start + stored, from, plainLength);
    } catch (cause) {
      const where = `WAL record at ${formatLsn(record.startLsn)}: image of block ${blockId}`;
      throw new StorageError('corrupt', where, { cause });
    }
    if (holeLength === 0) return;
  } else if (stored !== plainLength) {
    throw new StorageError('corrupt', `WAL record at ${formatLsn(record.startLsn)}: image of ${stored} bytes`);
  }
  out.set(from.subarray(at, at + holeOffset), 0);
  out.fill(0, holeOffset, holeOffset + holeLength);
  out.set(from.subarray(at + holeOffset, at + plainLength), holeOffset + holeLength);
}
