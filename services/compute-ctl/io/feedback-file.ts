/**
 * The file that this process and Postgres share (`extension/feedback-file.c` draws it): page server positions for backpressure go in,
 * how long writers were held back comes out. Both are 64 bytes of a mapped page, so neither side ever waits.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';

const FILE_NAME = 'neon.feedback';
const MAGIC = 0x4e464231;
const FORMAT = 1;
const POSITIONS_OFFSET = 64;
const POSITIONS_BYTES = 32;
const CHECK = 0x6e656f6e66656564n;
const COUNTERS_OFFSET = 128;
const COUNTERS_BYTES = 12;

export interface StoragePositions {
  readonly lastReceivedLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
}

export interface Throttling {
  /** Since the server's start, of all writers together. */
  readonly totalUs: number;
  readonly writersNow: number;
}

export class FeedbackFile {
  private readonly fd: number;
  private closed = false;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** The server has made the file before it takes connections. */
  static open(pgdata: string): FeedbackFile {
    const fd = openSync(join(pgdata, FILE_NAME), 'r+');
    const head = Buffer.alloc(8);
    readSync(fd, head, 0, head.length, 0);
    if (head.readUInt32LE(0) !== MAGIC || head.readUInt32LE(4) !== FORMAT) {
      closeSync(fd);
      throw new StorageError('corrupt', `${FILE_NAME} is not in the format that this compute_ctl knows`);
    }
    return new FeedbackFile(fd);
  }

  /** One write, so that a reader sees all of it or notices by the check word. */
  put(positions: StoragePositions): void {
    if (this.closed) return;
    const words = [positions.lastReceivedLsn, positions.diskConsistentLsn, positions.remoteConsistentLsn].map(BigInt);
    const out = Buffer.alloc(POSITIONS_BYTES);
    words.forEach((word, index) => out.writeBigUInt64LE(word, index * 8));
    out.writeBigUInt64LE(
      words.reduce((sum, word) => sum ^ word, CHECK),
      words.length * 8,
    );
    writeSync(this.fd, out, 0, out.length, POSITIONS_OFFSET);
  }

  throttling(): Throttling {
    const counters = Buffer.alloc(COUNTERS_BYTES);
    if (!this.closed) readSync(this.fd, counters, 0, counters.length, COUNTERS_OFFSET);
    return { totalUs: Number(counters.readBigUInt64LE(0)), writersNow: counters.readUInt32LE(8) };
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.fd);
  }
}
