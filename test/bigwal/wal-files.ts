/** WAL of a cluster in its segment files, read as one byte string, a segment at a time in memory. */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn } from '#shared/core/lsn.js';
import { segmentName } from '#shared/postgres/wal-layout.js';
import type { RecordedWal } from '../../services/pageserver/testing/wal-source.js';

export function walFiles(dir: string, segSize: number, firstLsn: Lsn, endLsn: Lsn): RecordedWal {
  const startLsn = lsn(firstLsn - (firstLsn % segSize));
  const subarray = (start: number, end: number): Buffer => {
    const at = startLsn + start;
    const segno = Math.floor(at / segSize);
    // Up to the segment's end: the caller asks again.
    const count = Math.max(0, Math.min(end - start, (segno + 1) * segSize - at));
    const bytes = Buffer.allocUnsafeSlow(count);
    if (count === 0) return bytes;
    const fd = openSync(join(dir, segmentName(segno, segSize)), 'r');
    try {
      readSync(fd, bytes, 0, count, at - segno * segSize);
    } finally {
      closeSync(fd);
    }
    return bytes;
  };
  return { startLsn, endLsn, bytes: { subarray } };
}
