/** For tests: WAL written record by record, in memory. */
import { lsn, type Lsn } from '../../core/lsn.js';
import { recordCrc } from '../crc32c.js';
import { RM_XLOG, XLOG_SWITCH } from '../rmgr.js';
import { recordStart, segmentOffset } from '../wal-layout.js';
import { encodeRecord, layOutRecord, type WalIdentity } from '../wal-synthesis.js';

export interface BuiltRecord {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly record: Uint8Array;
}

export class WalBuilder {
  readonly startLsn: Lsn;
  readonly records: BuiltRecord[] = [];
  private readonly identity: WalIdentity;
  private readonly parts: Uint8Array[] = [];
  private endLsn: Lsn;
  private prevLsn: Lsn;

  constructor(options: WalIdentity & { startLsn: Lsn; prevLsn?: Lsn }) {
    this.identity = options;
    this.startLsn = options.startLsn;
    this.endLsn = options.startLsn;
    this.prevLsn = options.prevLsn ?? lsn(0);
  }

  get end(): Lsn {
    return this.endLsn;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }

  /** A record without blocks. */
  append(record: { rmid: number; info: number; xid?: number; mainData: Uint8Array }): BuiltRecord {
    return this.appendEncoded(encodeRecord({ ...record, prevLsn: this.prevLsn }));
  }

  /** A record given as its bytes behind the 24-byte header; the header is made. */
  appendBody(record: { rmid: number; info: number; xid?: number; body: Uint8Array }): BuiltRecord {
    const bytes = new Uint8Array(24 + record.body.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, record.xid ?? 0, true);
    view.setBigUint64(8, BigInt(this.prevLsn), true);
    bytes[16] = record.info;
    bytes[17] = record.rmid;
    bytes.set(record.body, 24);
    view.setUint32(20, recordCrc(bytes, 0, bytes.length), true);
    return this.appendEncoded(bytes);
  }

  /** XLOG_SWITCH; the rest of the segment is zeros. */
  switchSegment(): BuiltRecord {
    const built = this.appendBody({ rmid: RM_XLOG, info: XLOG_SWITCH, body: new Uint8Array(0) });
    const { segSize } = this.identity;
    const rest = (segSize - segmentOffset(this.endLsn, segSize)) % segSize;
    this.parts.push(new Uint8Array(rest));
    this.endLsn = lsn(this.endLsn + rest);
    const whole = { ...built, endLsn: this.endLsn };
    this.records[this.records.length - 1] = whole;
    return whole;
  }

  /** Raw bytes, e.g. a part of a record that was never finished. */
  appendRaw(bytes: Uint8Array): void {
    this.parts.push(bytes);
    this.endLsn = lsn(this.endLsn + bytes.length);
  }

  private appendEncoded(record: Uint8Array): BuiltRecord {
    const startLsn = recordStart(this.endLsn, this.identity.segSize);
    const { bytes, endLsn } = layOutRecord(record, this.endLsn, this.identity);
    this.parts.push(bytes);
    this.endLsn = endLsn;
    this.prevLsn = startLsn;
    const built = { startLsn, endLsn, record };
    this.records.push(built);
    return built;
  }
}
