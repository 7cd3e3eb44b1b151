/** Reads the main data of a record field by field; a field outside of it is StorageError `corrupt`, never a read past the record. */
import { StorageError } from '../core/errors.js';
import { formatLsn } from '../core/lsn.js';
import type { WalRecord } from './wal-record.js';

const HALF = 0x1_0000_0000;

export class MainDataReader {
  private readonly record: WalRecord;
  private readonly view: DataView;
  private readonly end: number;
  private at: number;

  constructor(record: WalRecord) {
    this.record = record;
    this.view = record.view;
    this.at = record.mainDataOffset;
    this.end = record.mainDataOffset + record.mainDataLength;
  }

  get bytesLeft(): number {
    return this.end - this.at;
  }

  /** Moves on by `count` and returns the position before, an offset into record.bytes. */
  take(count: number): number {
    const at = this.at;
    if (count < 0 || count > this.end - at)
      throw this.corrupt(`main data of ${this.record.mainDataLength} bytes is too short`);
    this.at = at + count;
    return at;
  }

  u8(): number {
    return this.view.getUint8(this.take(1));
  }

  u16(): number {
    return this.view.getUint16(this.take(2), true);
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  i32(): number {
    return this.view.getInt32(this.take(4), true);
  }

  /** Exact up to 2^53. */
  u64(): number {
    const at = this.take(8);
    return this.view.getUint32(at + 4, true) * HALF + this.view.getUint32(at, true);
  }

  /** Microseconds since 2000-01-01 UTC, as Postgres keeps time stamps; exact for 285 years around it. */
  timestampUs(): number {
    const at = this.take(8);
    return this.view.getInt32(at + 4, true) * HALF + this.view.getUint32(at, true);
  }

  /** An item count, checked against what is left when each item has `itemBytes`. */
  count(itemBytes: number): number {
    const count = this.i32();
    if (count < 0 || count * itemBytes > this.bytesLeft) throw this.corrupt(`a list of ${count} items does not fit`);
    return count;
  }

  u32List(count: number): number[] {
    const at = this.take(count * 4);
    return Array.from({ length: count }, (_, index) => this.view.getUint32(at + index * 4, true));
  }

  /** Text up to a zero byte, which is consumed. */
  cstring(): string {
    const zero = this.record.bytes.indexOf(0, this.at);
    if (zero < 0 || zero >= this.end) throw this.corrupt('a text has no end');
    const start = this.take(zero - this.at + 1);
    return Buffer.from(this.record.bytes.buffer, this.record.bytes.byteOffset + start, zero - start).toString('utf8');
  }

  corrupt(what: string): StorageError {
    const { startLsn, rmid, info } = this.record;
    return new StorageError('corrupt', `WAL record at ${formatLsn(startLsn)} (manager ${rmid}, info ${info}): ${what}`);
  }
}
