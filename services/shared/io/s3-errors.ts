/** What a failure of an S3 request means to a caller, and so whether a further try makes sense (`unavailable`). */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { StorageError } from '../core/errors.js';

/** Of the server's answer; undefined when none came. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** Of status 400, but the request was not wrong: it did not arrive as it was sent, or too slowly. */
const DAMAGED_ON_THE_WAY = ['BadDigest', 'IncompleteBody', 'RequestTimeout', 'XAmzContentSHA256Mismatch'];
/** 429 and 503 (SlowDown) want us to wait; 409 is two writers of one key at once. */
const PASSING = [408, 409, 429];

/** `doing` says what failed. */
export function explainS3Error(doing: string, error: unknown): StorageError {
  if (error instanceof StorageError) return new StorageError(error.kind, doing, { cause: error });
  const status = statusOf(error);
  const name = error instanceof Error ? error.name : '';
  const as = (kind: StorageError['kind'], why = ''): StorageError =>
    new StorageError(kind, why === '' ? doing : `${doing}: ${why}`, { cause: error });
  if (name === 'CredentialsProviderError') return as('precondition', 'there are no credentials');
  if (status === undefined || status >= 500 || PASSING.includes(status)) return as('unavailable');
  if (name === 'NoSuchBucket') return as('precondition', 'there is no such bucket');
  if (status === 404) return as('not-found');
  if (status === 401 || status === 403) return as('precondition', 'access denied, check the credentials');
  if (status === 412) return as('precondition', 'it was changed by somebody else');
  if (status === 416) return as('corrupt', 'it ends before the bytes that were asked for');
  if (DAMAGED_ON_THE_WAY.includes(name)) return as('unavailable');
  // A body of an answer that is not XML, and the like: what the server said was not understood.
  return status < 400 ? as('unavailable') : as('internal', `the server refused the request (${status} ${name})`);
}
