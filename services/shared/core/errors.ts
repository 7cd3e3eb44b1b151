/** The one error type of all services. Its kind tells the caller what to do; rpc/ and http map kinds to status codes. */

/**
 * - invalid: the request is wrong; do not repeat it unchanged.
 * - not-found: what it names does not exist here.
 * - already-exists: it exists with other parameters.
 * - precondition: not possible in the present state; change the state first.
 * - unavailable: passing trouble (starting, peer away, time-out); retry with back-off.
 * - fenced: somebody newer owns this now; stop for good.
 * - corrupt: bytes failed their check; do not use them, raise an alarm.
 * - exhausted: a limit was hit (disk, queue, memory); retry later or raise the limit.
 * - cancelled: the caller went away or asked to stop.
 * - unimplemented: a feature that this version does not have; the message names it.
 * - internal: a bug.
 */
export type ErrorKind =
  | 'invalid'
  | 'not-found'
  | 'already-exists'
  | 'precondition'
  | 'unavailable'
  | 'fenced'
  | 'corrupt'
  | 'exhausted'
  | 'cancelled'
  | 'unimplemented'
  | 'internal';

/** Marks instances: this module may be loaded twice in one process, by require and by import, and both copies must know them. */
const BRAND = Symbol.for('neon-ts.StorageError');

export class StorageError extends Error {
  readonly kind: ErrorKind;
  readonly [BRAND] = true;

  static override [Symbol.hasInstance](value: unknown): boolean {
    // Subclasses are told apart as usual.
    if (this !== StorageError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && BRAND in value;
  }

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'StorageError';
    this.kind = kind;
  }
}

/** The kind of any thrown value; what is not a StorageError is a bug. */
export function errorKind(error: unknown): ErrorKind {
  return error instanceof StorageError ? error.kind : 'internal';
}

/** "message: cause: cause" of any thrown value, for logs and status texts. */
export function errorText(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && at !== null && parts.length < 8;) {
    parts.push(at instanceof Error ? at.message : typeof at === 'string' ? at : JSON.stringify(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return parts.join(': ');
}

/** What is not a StorageError is a bug, and becomes an `internal` one. */
export function asStorageError(error: unknown): StorageError {
  return error instanceof StorageError ? error : new StorageError('internal', errorText(error), { cause: error });
}

/** For wrapping: keeps the kind of a StorageError, adds what was being done. */
export function wrapError(doing: string, cause: unknown): StorageError {
  return new StorageError(errorKind(cause), doing, { cause });
}
