/**
 * Bytes of the pagestream protocol, versions 2 and 3. One request and one response is the body of one CopyData message; all numbers
 * are big-endian.
 *
 *   request    tag u8 | [v3: reqid u64] | request_lsn u64 | not_modified_since u64 | fields
 *     0 exists, 1 nblocks   spc u32, db u32, rel u32, fork u8
 *     2 getpage             spc u32, db u32, rel u32, fork u8, block u32
 *     3 dbsize              db u32
 *     4 slru segment        kind u8, segment u32
 *   response   tag u8 | [v3: everything of the request behind its tag] | payload
 *     100 exists u8   101 nblocks u32   102 page 8192 bytes   104 bytes i64   105 pages u32, pages × 8192 bytes
 *     103 error: [v3: reqid, request_lsn, not_modified_since] | text, 0
 */
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';

export const PAGE_BYTES = 8192;
export const REQUEST_EXISTS = 0;
export const REQUEST_NBLOCKS = 1;
export const REQUEST_GETPAGE = 2;
export const REQUEST_DBSIZE = 3;
export const REQUEST_SLRU_SEGMENT = 4;

export type PagestreamVersion = 2 | 3;

const RESPONSE_TAGS = [100, 101, 102, 104, 105] as const;
const RESPONSE_GETPAGE = 102;
const RESPONSE_ERROR = 103;
const FIELD_BYTES = [13, 13, 17, 4, 5] as const;
const ERROR_TEXT_BYTES_MAX = 8000;
/** CopyData: 'd' | length u32. */
const COPY_HEADER_BYTES = 5;
const COPY_DATA = 0x64;
const HALF = 0x1_0000_0000;
const MAX_SAFE_HIGH = 0x1f_ffff;

/** One request; a cursor that is filled anew by each `parse`. */
export class PagestreamRequest {
  readonly version: PagestreamVersion;
  tag = 0;
  requestLsn: Lsn = lsn(0);
  notModifiedSince: Lsn = lsn(0);
  spc = 0;
  db = 0;
  rel = 0;
  fork = 0;
  block = 0;
  slruKind = 0;
  segmentNumber = 0;
  /** The request's bytes behind its tag; v3 sends them back. */
  readonly echo = Buffer.alloc(8 + 16 + 17);
  echoBytes = 0;

  constructor(version: PagestreamVersion) {
    this.version = version;
  }

  /** Bytes of reqid and LSNs, echoed by errors. */
  get headerEchoBytes(): number {
    return this.version === 3 ? 24 : 0;
  }

  /** Reads buffer[start, end). Throws StorageError `invalid`; then nothing can be answered, since the pairing is lost. */
  parse(buffer: Buffer, start: number, end: number): void {
    const tag = end > start ? buffer.readUInt8(start) : -1;
    const fieldBytes = FIELD_BYTES[tag];
    const headerBytes = this.version === 3 ? 25 : 17;
    if (fieldBytes === undefined) throw new StorageError('invalid', `unknown pagestream request ${tag}`);
    if (end - start !== headerBytes + fieldBytes) {
      throw new StorageError(
        'invalid',
        `pagestream request ${tag} has ${end - start} bytes, not ${headerBytes + fieldBytes}`,
      );
    }
    this.tag = tag;
    this.requestLsn = readLsn(buffer, start + headerBytes - 16);
    this.notModifiedSince = readLsn(buffer, start + headerBytes - 8);
    this.echoBytes = this.version === 3 ? end - start - 1 : 0;
    if (this.echoBytes > 0) buffer.copy(this.echo, 0, start + 1, end);
    this.#parseFields(buffer, start + headerBytes);
  }

  #parseFields(buffer: Buffer, at: number): void {
    if (this.tag <= REQUEST_GETPAGE) {
      this.spc = buffer.readUInt32BE(at);
      this.db = buffer.readUInt32BE(at + 4);
      this.rel = buffer.readUInt32BE(at + 8);
      this.fork = buffer.readUInt8(at + 12);
      if (this.tag === REQUEST_GETPAGE) this.block = buffer.readUInt32BE(at + 13);
    } else if (this.tag === REQUEST_DBSIZE) {
      this.db = buffer.readUInt32BE(at);
    } else {
      this.slruKind = buffer.readUInt8(at);
      this.segmentNumber = buffer.readUInt32BE(at + 1);
    }
  }

  /** A copy that outlives the next `parse`. */
  clone(): PagestreamRequest {
    const copy = new PagestreamRequest(this.version);
    copy.tag = this.tag;
    copy.requestLsn = this.requestLsn;
    copy.notModifiedSince = this.notModifiedSince;
    copy.spc = this.spc;
    copy.db = this.db;
    copy.rel = this.rel;
    copy.fork = this.fork;
    copy.block = this.block;
    copy.slruKind = this.slruKind;
    copy.segmentNumber = this.segmentNumber;
    this.echo.copy(copy.echo, 0, 0, this.echoBytes);
    copy.echoBytes = this.echoBytes;
    return copy;
  }
}

/** Above 2^53 only all-ones ("latest") has a meaning; the others become MAX_LSN too: no WAL will ever be there to differ. */
function readLsn(buffer: Buffer, at: number): Lsn {
  const high = buffer.readUInt32BE(at);
  return high > MAX_SAFE_HIGH ? MAX_LSN : lsn(high * HALF + buffer.readUInt32BE(at + 4));
}

/** A CopyData message with room for its payload at the end; only `bufferBytes` of it when the payload is written by itself. */
function startResponse(
  request: PagestreamRequest,
  tag: number,
  echoBytes: number,
  payloadBytes: number,
  bufferBytes = COPY_HEADER_BYTES + 1 + echoBytes + payloadBytes,
): Buffer {
  const out = Buffer.allocUnsafe(bufferBytes);
  out[0] = COPY_DATA;
  out.writeUInt32BE(4 + 1 + echoBytes + payloadBytes, 1);
  out[COPY_HEADER_BYTES] = tag;
  if (echoBytes > 0) request.echo.copy(out, COPY_HEADER_BYTES + 1, 0, echoBytes);
  return out;
}

function startAnswer(request: PagestreamRequest, payloadBytes: number): Buffer {
  return startResponse(request, RESPONSE_TAGS[request.tag] ?? RESPONSE_ERROR, request.echoBytes, payloadBytes);
}

export function encodeExists(request: PagestreamRequest, exists: boolean): Buffer {
  const out = startAnswer(request, 1);
  out[out.length - 1] = exists ? 1 : 0;
  return out;
}

export function encodeNblocks(request: PagestreamRequest, blockCount: number): Buffer {
  const out = startAnswer(request, 4);
  out.writeUInt32BE(blockCount, out.length - 4);
  return out;
}

/** What comes before the 8192 bytes of a page, which the caller writes behind it: pages are never copied. */
export function encodePageHeader(request: PagestreamRequest): Buffer {
  return startResponse(
    request,
    RESPONSE_GETPAGE,
    request.echoBytes,
    PAGE_BYTES,
    COPY_HEADER_BYTES + 1 + request.echoBytes,
  );
}

export function encodeDbSize(request: PagestreamRequest, sizeBytes: number): Buffer {
  const out = startAnswer(request, 8);
  out.writeBigInt64BE(BigInt(sizeBytes), out.length - 8);
  return out;
}

export function encodeSlruSegment(request: PagestreamRequest, segment: Uint8Array): Buffer {
  const out = startAnswer(request, 4 + segment.length);
  out.writeUInt32BE(segment.length / PAGE_BYTES, out.length - segment.length - 4);
  out.set(segment, out.length - segment.length);
  return out;
}

export function encodeError(request: PagestreamRequest, text: string): Buffer {
  const body = Buffer.from(`${text.replaceAll('\0', ' ').slice(0, ERROR_TEXT_BYTES_MAX)}\0`);
  const out = startResponse(request, RESPONSE_ERROR, request.headerEchoBytes, body.length);
  body.copy(out, out.length - body.length);
  return out;
}
