/** The WAL of a stopped cluster from a snapshot's checkpoint on, record by record, up to where it ends. */
import { StorageError } from '#shared/core/errors.js';
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { decodeControlFile, type ControlFile } from '#shared/postgres/control-file.js';
import { segmentName } from '#shared/postgres/wal-layout.js';
import type { WalRecord } from '#shared/postgres/wal-record.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

export function readControlFile(dataDir: string): ControlFile {
  return decodeControlFile(readFileSync(path.join(dataDir, 'global', 'pg_control')));
}

export class WalSource {
  readonly startLsn: Lsn;
  endLsn: Lsn;
  recordCount = 0;
  private readonly walDir: string;
  private readonly segSize: number;

  /** `snapshotDir` was stopped cleanly; `dataDir` went on from there. */
  constructor(snapshotDir: string, dataDir: string) {
    const control = readControlFile(snapshotDir);
    this.startLsn = control.checkPoint.redo;
    this.endLsn = this.startLsn;
    this.segSize = control.segSize;
    this.walDir = path.join(dataDir, 'pg_wal');
  }

  /** Ends at the first record that is not there: cut short, or bytes of a recycled segment. */
  *records(): Generator<WalRecord> {
    const decoder = new WalStreamDecoder({ startLsn: this.startLsn, segSize: this.segSize });
    let segment = Math.floor(this.startLsn / this.segSize);
    let skip = this.startLsn % this.segSize;
    for (; ; segment++) {
      const file = path.join(this.walDir, segmentName(segment, this.segSize));
      if (!existsSync(file)) return;
      decoder.feed(readFileSync(file).subarray(skip));
      skip = 0;
      while (this.next(decoder)) {
        this.recordCount++;
        this.endLsn = lsn(decoder.record.endLsn);
        yield decoder.record;
      }
      if (this.ended) return;
    }
  }

  private ended = false;

  private next(decoder: WalStreamDecoder): boolean {
    try {
      return decoder.next();
    } catch (error) {
      if (!(error instanceof StorageError) || error.kind !== 'corrupt') throw error;
      this.ended = true;
      return false;
    }
  }
}
