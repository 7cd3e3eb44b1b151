/**
 * Turns a stream of WAL bytes into records: feed() any pieces, in order; next() until it says false. Owns record assembly and
 * every check that does not depend on the kind of record.
 *
 * Invariants: recordEndLsn ≤ inputLsn: a record is given out only when its padding (after XLOG_SWITCH: the rest of the segment)
 * has been fed as well. Nothing is read past the input. The window holds at most one page of unread bytes after next() said
 * false; a longer record grows the assembly buffer by what has really arrived, not by what its header claims. An error is final:
 * the same one is thrown from then on.
 */
import { StorageError } from '../core/errors.js';
import { alignLsn, formatLsn, INVALID_LSN, type Lsn } from '../core/lsn.js';
import { forgetCached, recordCrc, recordCrcCached } from './crc32c.js';
import { RM_BUILTIN_MAX, RM_CUSTOM_MIN, RM_XLOG, XLOG_SWITCH } from './rmgr.js';
import {
  checkSegmentSize,
  LONG_PAGE_HEADER_BYTES,
  pageHeaderBytes,
  pageOffset,
  readLsn,
  RECORD_BYTES_MAX,
  RECORD_HEADER_BYTES,
  segmentOffset,
  SHORT_PAGE_HEADER_BYTES,
  XLOG_BLCKSZ,
  XLOG_PAGE_MAGIC_15,
  XLP_ALL_FLAGS,
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
  XLP_LONG_HEADER,
} from './wal-layout.js';
import { decodeRecordBlocks, WalRecord, XLR_RMGR_INFO_MASK } from './wal-record.js';

const WINDOW_BYTES_MIN = 256 * 1024;
/** A caller that feeds more than this without taking records out has lost its way. */
const WINDOW_BYTES_MAX = 1024 * 1024 * 1024;
const ASSEMBLY_BYTES_MIN = 64 * 1024;

export interface WalStreamDecoderOptions {
  /** A record boundary (or, with skipContinuation, any page start). feed() begins with this byte. */
  readonly startLsn: Lsn;
  readonly segSize: number;
  /** When given, the long page headers must carry it. */
  readonly systemId?: bigint;
  /** Whether xl_prev must name the record before; on unless false. The first record may have any. */
  readonly checkPrev?: boolean;
  /** Whether next() also decodes block references; on unless false. */
  readonly parseBlocks?: boolean;
  /** Start at a page that may begin with the rest of an earlier record: pass over that rest. */
  readonly skipContinuation?: boolean;
}

export class WalStreamDecoder {
  readonly record = new WalRecord();
  readonly segSize: number;
  private readonly systemId: bigint | undefined;
  private readonly checkPrev: boolean;
  private readonly parseBlocks: boolean;

  private window: Uint8Array = new Uint8Array(0);
  private windowView = new DataView(this.window.buffer);
  /** Unread bytes are window[position, filled). */
  private position = 0;
  private filled = 0;
  /** LSN of window[0], and the place of `position` in its page and segment, kept so that no LSN is ever divided. */
  private windowLsn: Lsn;
  private inPage: number;
  private inSegment: number;

  /** A record in more than one page: assembly[0, assembled) of assemblyTotal; 0 total = none. */
  private assembly = new Uint8Array(0);
  private assemblyView = new DataView(this.assembly.buffer);
  private assembled = 0;
  private assemblyTotal = 0;
  /** Whether the header of the record being assembled has passed checkRecordHeader. */
  private headerChecked = false;
  /** Padding still to pass over before the completed record is given out. */
  private paddingBytes = -1;
  /** Continuation bytes to pass over at the start (skipContinuation). */
  private skipFirst: boolean;
  private skipBytes = 0;

  private startOfRecord: Lsn = INVALID_LSN;
  private endOfRecord: Lsn;
  private previousStart: Lsn = INVALID_LSN;
  private timelineId = 0;
  private failure: StorageError | null = null;

  constructor(options: WalStreamDecoderOptions) {
    checkSegmentSize(options.segSize);
    this.segSize = options.segSize;
    this.systemId = options.systemId;
    this.checkPrev = options.checkPrev !== false;
    this.parseBlocks = options.parseBlocks !== false;
    this.skipFirst = options.skipContinuation === true;
    this.windowLsn = options.startLsn;
    this.endOfRecord = options.startLsn;
    this.inPage = pageOffset(options.startLsn);
    this.inSegment = segmentOffset(options.startLsn, this.segSize);
    const insideHeader = this.inPage > 0 && this.inPage < pageHeaderBytes(options.startLsn, this.segSize);
    if (insideHeader || this.inPage % 8 !== 0 || (this.skipFirst && this.inPage !== 0)) {
      throw new StorageError('invalid', `no WAL record can begin at ${formatLsn(options.startLsn)}`);
    }
  }

  /** feed() continues with this byte. */
  get inputLsn(): Lsn {
    return (this.windowLsn + this.filled) as Lsn;
  }

  /** End of the last record that next() gave out: where the next record (or its page header) begins; startLsn before the first. */
  get recordEndLsn(): Lsn {
    return this.endOfRecord;
  }

  /** Start of the last record that next() gave out; 0 before the first. What the next record's xl_prev must say. */
  get recordStartLsn(): Lsn {
    return this.previousStart;
  }

  /** Copies the bytes. Throws `exhausted` when the caller feeds on without calling next(). */
  feed(bytes: Uint8Array): void {
    const unread = this.filled - this.position;
    if (this.filled + bytes.length > this.window.length) this.makeRoom(unread, bytes.length);
    this.window.set(bytes, this.filled);
    this.filled += bytes.length;
  }

  /** True: `record` describes the next record. False: feed more. Throws `corrupt`, naming the LSN and what is wrong. */
  next(): boolean {
    if (this.failure !== null) throw this.failure;
    try {
      return this.advance();
    } catch (error) {
      if (error instanceof StorageError) this.failure = error;
      throw error;
    }
  }

  private advance(): boolean {
    for (;;) {
      if (this.paddingBytes >= 0) return this.finishAssembled();
      if (this.skipBytes > 0 && !this.skipRest()) return false;
      if (this.inPage === 0 && !this.enterPage()) return false;
      if (this.skipBytes > 0) continue;
      if (this.assemblyTotal > 0) {
        if (!this.assemble()) return false;
        continue;
      }
      const available = this.filled - this.position;
      if (available < 8) return false;
      const total = this.windowView.getUint32(this.position, true);
      const leftInPage = XLOG_BLCKSZ - this.inPage;
      const startLsn = this.positionLsn();
      if (total < RECORD_HEADER_BYTES || total > RECORD_BYTES_MAX) throw badLength(startLsn, total);
      const padded = (total + 7) & ~7;
      if (padded > leftInPage) {
        this.beginAssembly(total, startLsn);
        continue;
      }
      if (available < RECORD_HEADER_BYTES) return false;
      this.checkRecordHeader(this.window, this.windowView, this.position, startLsn);
      if (available < padded) return false;
      if (this.isSwitch(this.window, this.position)) {
        this.beginAssembly(total, startLsn);
        continue;
      }
      const offset = this.position;
      this.step(padded);
      this.complete(this.window, this.windowView, offset, total, startLsn, (startLsn + padded) as Lsn);
      return true;
    }
  }

  private makeRoom(unread: number, more: number): void {
    const needed = unread + more;
    forgetCached(this.window);
    if (needed > WINDOW_BYTES_MAX) {
      throw new StorageError('exhausted', `WAL decoder holds ${unread} unread bytes and was fed ${more} more`);
    }
    if (needed > this.window.length) {
      const grown = new Uint8Array(Math.max(WINDOW_BYTES_MIN, needed + (needed >>> 1)));
      grown.set(this.window.subarray(this.position, this.filled));
      this.window = grown;
      this.windowView = new DataView(grown.buffer);
    } else {
      this.window.copyWithin(0, this.position, this.filled);
    }
    this.windowLsn = (this.windowLsn + this.position) as Lsn;
    this.position = 0;
    this.filled = unread;
  }

  private positionLsn(): Lsn {
    return (this.windowLsn + this.position) as Lsn;
  }

  /** Moves over bytes that lie in the present page. */
  private step(count: number): void {
    this.position += count;
    this.inPage = (this.inPage + count) & (XLOG_BLCKSZ - 1);
    this.inSegment = (this.inSegment + count) & (this.segSize - 1);
  }

  /** At a page start: checks and passes its header. False: not all of it is there yet. */
  private enterPage(): boolean {
    const long = this.inSegment === 0;
    const headerBytes = long ? LONG_PAGE_HEADER_BYTES : SHORT_PAGE_HEADER_BYTES;
    if (this.filled - this.position < headerBytes) return false;
    const info = this.checkPageHeader(long);
    const remaining = this.windowView.getUint32(this.position + 16, true);
    const continues = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
    if (this.assemblyTotal > 0) {
      if (info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) {
        // The server crashed before it wrote the rest: it gave the record up, and a new one begins on this page.
        this.assemblyTotal = 0;
        this.assembled = 0;
      } else if (!continues || remaining !== this.assemblyTotal - this.assembled) {
        const said = continues ? `${remaining} bytes` : 'nothing';
        throw this.badPage(
          `continues ${said} of the record at ${formatLsn(this.startOfRecord)}, which lacks ${this.assemblyTotal - this.assembled}`,
        );
      }
    } else if (this.skipFirst || this.skipBytes > 0) {
      if (this.skipBytes > 0 && info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) this.skipBytes = 0;
      else this.skipBytes = continues ? alignLsn(remaining as Lsn) : 0;
    } else if (continues) {
      throw this.badPage('continues a record, but the record before it was complete');
    }
    this.skipFirst = false;
    this.step(headerBytes);
    return true;
  }

  /** Returns the page's info bits. */
  private checkPageHeader(long: boolean): number {
    const view = this.windowView;
    const at = this.position;
    const magic = view.getUint16(at, true);
    const info = view.getUint16(at + 2, true);
    const timelineId = view.getUint32(at + 4, true);
    const pageLsn = readLsn(view, at + 8);
    if (magic !== XLOG_PAGE_MAGIC_15) {
      throw this.badPage(`has magic ${magic.toString(16)}, not ${XLOG_PAGE_MAGIC_15.toString(16)}`);
    }
    if (pageLsn !== this.positionLsn()) throw this.badPage(`says that it is the page of ${formatLsn(pageLsn)}`);
    if ((info & ~XLP_ALL_FLAGS) !== 0 || ((info & XLP_LONG_HEADER) !== 0) !== long) {
      throw this.badPage(`has info bits ${info.toString(16)}`);
    }
    if (timelineId === 0 || timelineId < this.timelineId) {
      throw this.badPage(`has timeline ${timelineId} after ${this.timelineId}`);
    }
    this.timelineId = timelineId;
    if (long) this.checkLongHeader(view, at);
    return info;
  }

  private checkLongHeader(view: DataView, at: number): void {
    const systemId = view.getBigUint64(at + 24, true);
    if (this.systemId !== undefined && systemId !== this.systemId) {
      throw this.badPage(`belongs to system ${systemId}, not ${this.systemId}`);
    }
    const segSize = view.getUint32(at + 32, true);
    const pageSize = view.getUint32(at + 36, true);
    if (segSize !== this.segSize || pageSize !== XLOG_BLCKSZ) {
      throw this.badPage(`has segment size ${segSize} and page size ${pageSize}`);
    }
  }

  private badPage(what: string): StorageError {
    return new StorageError('corrupt', `WAL page at ${formatLsn(this.positionLsn())} ${what}`);
  }

  private checkRecordHeader(bytes: Uint8Array, view: DataView, at: number, startLsn: Lsn): void {
    const rmid = bytes[at + 17]!;
    if (rmid > RM_BUILTIN_MAX && rmid < RM_CUSTOM_MIN) {
      throw badRecord(startLsn, `names resource manager ${rmid}, which does not exist`);
    }
    if (!this.checkPrev || this.previousStart === INVALID_LSN) return;
    const prevLsn = readLsn(view, at + 8);
    if (prevLsn !== this.previousStart) {
      throw badRecord(
        startLsn,
        `follows ${formatLsn(prevLsn)} by its header, ${formatLsn(this.previousStart)} in the stream`,
      );
    }
  }

  private isSwitch(bytes: Uint8Array, at: number): boolean {
    return bytes[at + 17] === RM_XLOG && (bytes[at + 16]! & XLR_RMGR_INFO_MASK) === XLOG_SWITCH;
  }

  private beginAssembly(total: number, startLsn: Lsn): void {
    this.startOfRecord = startLsn;
    this.assemblyTotal = total;
    this.assembled = 0;
    this.headerChecked = false;
  }

  /** Takes what the present page has. False: input ran out. True: at a page end, or complete with paddingBytes set. */
  private assemble(): boolean {
    const count = Math.min(this.assemblyTotal - this.assembled, XLOG_BLCKSZ - this.inPage, this.filled - this.position);
    if (this.assembled + count > this.assembly.length) this.growAssembly(this.assembled + count);
    this.assembly.set(this.window.subarray(this.position, this.position + count), this.assembled);
    this.assembled += count;
    this.step(count);
    if (!this.headerChecked && this.assembled >= RECORD_HEADER_BYTES) {
      this.checkRecordHeader(this.assembly, this.assemblyView, 0, this.startOfRecord);
      this.headerChecked = true;
    }
    if (this.assembled < this.assemblyTotal) return this.inPage === 0;
    this.paddingBytes = this.isSwitch(this.assembly, 0)
      ? (this.segSize - this.inSegment) & (this.segSize - 1)
      : -this.inPage & 7;
    return true;
  }

  private growAssembly(needed: number): void {
    const size = Math.max(ASSEMBLY_BYTES_MIN, Math.min(RECORD_BYTES_MAX, needed * 2));
    const grown = new Uint8Array(size);
    grown.set(this.assembly.subarray(0, this.assembled));
    this.assembly = grown;
    this.assemblyView = new DataView(grown.buffer);
  }

  private finishAssembled(): boolean {
    const count = Math.min(this.paddingBytes, this.filled - this.position);
    this.step(count);
    this.paddingBytes -= count;
    if (this.paddingBytes > 0) return false;
    const total = this.assemblyTotal;
    this.paddingBytes = -1;
    this.assemblyTotal = 0;
    this.complete(this.assembly, this.assemblyView, 0, total, this.startOfRecord, this.positionLsn());
    return true;
  }

  /** Passes over the rest of a record that began before the start. False: input ran out. */
  private skipRest(): boolean {
    if (this.inPage === 0) return true;
    const count = Math.min(this.skipBytes, XLOG_BLCKSZ - this.inPage, this.filled - this.position);
    this.step(count);
    this.skipBytes -= count;
    return this.skipBytes === 0 || this.inPage === 0;
  }

  private complete(bytes: Uint8Array, view: DataView, at: number, total: number, startLsn: Lsn, endLsn: Lsn): void {
    const crc = bytes === this.window ? recordCrcCached(bytes, at, total, this.filled) : recordCrc(bytes, at, total);
    if (view.getUint32(at + 20, true) !== crc) throw badRecord(startLsn, 'fails its CRC');
    const record = this.record;
    record.startLsn = startLsn;
    record.endLsn = endLsn;
    record.totalLength = total;
    record.bytes = bytes;
    record.view = view;
    record.offset = at;
    record.xid = view.getUint32(at + 4, true);
    record.prevLsn = readLsn(view, at + 8);
    record.info = bytes[at + 16]!;
    record.rmid = bytes[at + 17]!;
    if (this.parseBlocks) decodeRecordBlocks(record);
    this.previousStart = startLsn;
    this.endOfRecord = endLsn;
  }
}

function badRecord(lsn: Lsn, what: string): StorageError {
  return new StorageError('corrupt', `WAL record at ${formatLsn(lsn)} ${what}`);
}

function badLength(lsn: Lsn, total: number): StorageError {
  return badRecord(
    lsn,
    total === 0 ? 'is missing: zeros, the end of written WAL' : `has the impossible length ${total}`,
  );
}
