/**
 * Error kinds to gRPC status codes and back. The exact kind travels as google.rpc.ErrorInfo (reason = kind, domain "neon-ts") in the
 * standard `grpc-status-details-bin` trailer, since several kinds may share a code.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { Metadata, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { errorKind, errorText, StorageError } from '../core/errors.js';
import type { ErrorKind } from '../core/errors.js';

const CODE: Record<ErrorKind, status> = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  precondition: status.FAILED_PRECONDITION,
  unavailable: status.UNAVAILABLE,
  fenced: status.ABORTED,
  corrupt: status.DATA_LOSS,
  exhausted: status.RESOURCE_EXHAUSTED,
  cancelled: status.CANCELLED,
  unimplemented: status.UNIMPLEMENTED,
  internal: status.INTERNAL,
};
const KIND = new Map<status, ErrorKind>(Object.entries(CODE).map(([kind, code]) => [code, kind as ErrorKind]));
KIND.set(status.DEADLINE_EXCEEDED, 'unavailable');
KIND.set(status.UNKNOWN, 'internal');

const DETAILS = 'grpc-status-details-bin';
const DOMAIN = 'neon-ts';
const ERROR_INFO_URL = 'type.googleapis.com/google.rpc.ErrorInfo';

export interface GrpcStatus {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** google.rpc.Status{code=1, message=2, details=3: Any{type_url=1, value=2}} with one ErrorInfo{reason=1, domain=2}. */
function encodeDetails(code: status, message: string, kind: ErrorKind): Buffer {
  const info = new BinaryWriter().uint32(10).string(kind).uint32(18).string(DOMAIN).finish();
  const any = new BinaryWriter().uint32(10).string(ERROR_INFO_URL).uint32(18).bytes(info).finish();
  const whole = new BinaryWriter().uint32(8).int32(code).uint32(18).string(message).uint32(26).bytes(any).finish();
  return Buffer.from(whole);
}

/** The length-delimited fields of a message by number; the last of each wins. */
function fieldsOf(bytes: Uint8Array): Map<number, Uint8Array> {
  const fields = new Map<number, Uint8Array>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) fields.set(field, reader.bytes());
    else reader.skip(wireType, field);
  }
  return fields;
}

function decodeKind(metadata: Metadata | undefined): ErrorKind | null {
  const raw = metadata?.get(DETAILS)[0];
  if (!Buffer.isBuffer(raw)) return null;
  try {
    const any = fieldsOf(fieldsOf(raw).get(3) ?? new Uint8Array());
    const info = fieldsOf(any.get(2) ?? new Uint8Array());
    const text = (field: number) => Buffer.from(info.get(field) ?? new Uint8Array()).toString('utf8');
    const reason = text(1);
    return text(2) === DOMAIN && reason in CODE ? (reason as ErrorKind) : null;
  } catch {
    // Details of a foreign or damaged trailer: the status code still tells enough.
    return null;
  }
}

export function toGrpcStatus(error: unknown): GrpcStatus {
  const kind = errorKind(error);
  const code = CODE[kind];
  const details = errorText(error);
  const metadata = new Metadata();
  metadata.set(DETAILS, encodeDetails(code, details, kind));
  return { code, details, metadata };
}

/** From what a client call failed with; anything else is passed through `StorageError('internal')`. */
export function fromGrpcError(error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  if (!(error instanceof Error) || !('code' in error))
    return new StorageError('internal', errorText(error), { cause: error });
  const failure = error as ServiceError;
  const kind = decodeKind(failure.metadata) ?? KIND.get(failure.code) ?? 'unavailable';
  return new StorageError(kind, failure.details || failure.message);
}
