/** For tests: an endless supply of valid WAL, made of NOOP records of any size and of segment switches. */
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { recordCrc } from '#shared/postgres/crc32c.js';
import { recordStart, RECORD_HEADER_BYTES, segmentOffset } from '#shared/postgres/wal-layout.js';
import { encodeRecord, layOutRecord } from '#shared/postgres/wal-synthesis.js';

const RM_XLOG = 0;
const XLOG_NOOP = 0x20;
const XLOG_SWITCH = 0x40;

export interface MadeWal {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly bytes: Uint8Array;
}

export class WalMaker {
  readonly segSize: number;
  readonly systemId: bigint;
  /** Where the next record, or its page header, begins. */
  endLsn: Lsn;
  /** Start of the last record. */
  prevLsn: Lsn;
  private made = 0;

  constructor(options: { startLsn: Lsn; segSize: number; systemId: bigint; prevLsn?: Lsn }) {
    this.endLsn = options.startLsn;
    this.segSize = options.segSize;
    this.systemId = options.systemId;
    this.prevLsn = options.prevLsn ?? lsn(0);
  }

  /** Another history that goes on from here. */
  fork(): WalMaker {
    const { endLsn: startLsn, segSize, systemId, prevLsn } = this;
    return new WalMaker({ startLsn, segSize, systemId, prevLsn });
  }

  /** A record with `payloadBytes` of data that tells it apart from others. */
  record(payloadBytes: number, tag = 0): MadeWal {
    const mainData = new Uint8Array(payloadBytes);
    this.made += 1;
    for (let at = 0; at < payloadBytes; at++) mainData[at] = (at * 7 + this.made * 13 + tag * 101) & 0xff;
    return this.layOut(encodeRecord({ rmid: RM_XLOG, info: XLOG_NOOP, prevLsn: this.prevLsn, mainData }));
  }

  /** Records until at least `bytes` were made. */
  stretch(bytes: number, payloadBytes = 400, tag = 0): MadeWal {
    const startLsn = this.endLsn;
    const pieces: Uint8Array[] = [];
    while (this.endLsn - startLsn < bytes) pieces.push(this.record(payloadBytes, tag).bytes);
    return { startLsn, endLsn: this.endLsn, bytes: Buffer.concat(pieces) };
  }

  /** XLOG_SWITCH and the zeros that fill the segment behind it. */
  switchSegment(): MadeWal {
    const record = new Uint8Array(RECORD_HEADER_BYTES);
    const view = new DataView(record.buffer);
    view.setUint32(0, record.length, true);
    view.setBigUint64(8, BigInt(this.prevLsn), true);
    view.setUint8(16, XLOG_SWITCH);
    view.setUint32(20, recordCrc(record, 0, record.length), true);
    const { startLsn, bytes } = this.layOut(record);
    const padding = (this.segSize - segmentOffset(this.endLsn, this.segSize)) % this.segSize;
    this.endLsn = lsn(this.endLsn + padding);
    return { startLsn, endLsn: this.endLsn, bytes: Buffer.concat([bytes, new Uint8Array(padding)]) };
  }

  private layOut(record: Uint8Array): MadeWal {
    const startLsn = this.endLsn;
    const { bytes, endLsn } = layOutRecord(record, startLsn, { systemId: this.systemId, segSize: this.segSize });
    this.prevLsn = recordStart(startLsn, this.segSize);
    this.endLsn = endLsn;
    return { startLsn, endLsn, bytes };
  }
}
