/**
 * Messages from server to client: type u8 | length u32 (counts itself) | body. Every function gives a whole message in a
 * buffer of its own.
 */
import type { ErrorKind } from '#shared/core/errors.js';
import { errorKind, errorText } from '#shared/core/errors.js';

const HEADER_BYTES = 5;
/** Object id of type text, for the columns of `show`. */
const TEXT_OID = 25;

function message(type: string, body: Buffer): Buffer {
  const out = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  out.write(type, 0, 'latin1');
  out.writeUInt32BE(4 + body.length, 1);
  body.copy(out, HEADER_BYTES);
  return out;
}

function cString(text: string): Buffer {
  return Buffer.from(`${text.replaceAll('\0', '')}\0`);
}

function uint16(value: number): Buffer {
  const out = Buffer.allocUnsafe(2);
  out.writeUInt16BE(value);
  return out;
}

function uint32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value);
  return out;
}

/** Answer to SSLRequest and GSSENCRequest: no. */
export const REFUSE_ENCRYPTION = Buffer.from('N');

export function authenticationOk(): Buffer {
  return message('R', uint32(0));
}

export function authenticationCleartextPassword(): Buffer {
  return message('R', uint32(3));
}

/** Tells a client of a newer minor version that 3.0 is spoken. */
export function negotiateProtocolVersion(): Buffer {
  return message('v', Buffer.concat([uint32(0), uint32(0)]));
}

export function parameterStatus(name: string, value: string): Buffer {
  return message('S', Buffer.concat([cString(name), cString(value)]));
}

export function readyForQuery(): Buffer {
  return message('Z', Buffer.from('I'));
}

export function commandComplete(tag: string): Buffer {
  return message('C', cString(tag));
}

export function emptyQueryResponse(): Buffer {
  return message('I', Buffer.alloc(0));
}

export function rowDescription(columns: readonly string[]): Buffer {
  const fields = columns.map((name) =>
    Buffer.concat([
      cString(name),
      uint32(0),
      uint16(0),
      uint32(TEXT_OID),
      uint16(0xffff),
      uint32(0xffffffff),
      uint16(0),
    ]),
  );
  return message('T', Buffer.concat([uint16(columns.length), ...fields]));
}

export function dataRow(values: readonly (string | null)[]): Buffer {
  const fields = values.map((value) => {
    if (value === null) return uint32(0xffffffff);
    const text = Buffer.from(value);
    return Buffer.concat([uint32(text.length), text]);
  });
  return message('D', Buffer.concat([uint16(values.length), ...fields]));
}

/** Binary COPY without columns, in both directions. */
export function copyBothResponse(): Buffer {
  return message('W', Buffer.from([0, 0, 0]));
}

export function copyOutResponse(): Buffer {
  return message('H', Buffer.from([0, 0, 0]));
}

export function copyData(body: Buffer): Buffer {
  return message('d', body);
}

export function copyDone(): Buffer {
  return message('c', Buffer.alloc(0));
}

export function errorResponse(severity: 'ERROR' | 'FATAL', sqlState: string, text: string): Buffer {
  const fields = [`S${severity}`, `V${severity}`, `C${sqlState}`, `M${text}`];
  return message('E', Buffer.concat([...fields.map(cString), Buffer.from([0])]));
}

/** ErrorResponse of any thrown value. */
export function errorResponseOf(severity: 'ERROR' | 'FATAL', error: unknown): Buffer {
  return errorResponse(severity, SQL_STATES[errorKind(error)], errorText(error));
}

/** Nearest codes of Postgres' own table, so that libpq programs can tell retry from give up. */
const SQL_STATES: Record<ErrorKind, string> = {
  invalid: '22023',
  'not-found': '42704',
  'already-exists': '42710',
  precondition: '55000',
  unavailable: '57P03',
  fenced: '57P02',
  corrupt: 'XX001',
  exhausted: '53000',
  cancelled: '57P01',
  unimplemented: '0A000',
  internal: 'XX000',
};
