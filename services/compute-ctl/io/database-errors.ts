/** Errors of a Postgres server as StorageErrors, by SQLSTATE. */
import { errorText, StorageError } from '#shared/core/errors.js';
import type { ErrorKind } from '#shared/core/errors.js';

const KINDS: Readonly<Record<string, ErrorKind>> = {
  '3D000': 'not-found', // no such database
  '3F000': 'not-found', // no such schema
  '42704': 'not-found', // no such role, extension …
  '0A000': 'not-found', // an extension that is not installed on this server
  '58P01': 'not-found', // its control file is missing
  '22023': 'invalid',
  '53100': 'exhausted', // disk full
  '53300': 'exhausted', // too many connections
  '57P01': 'unavailable',
  '57P03': 'unavailable',
};

export function fromDatabaseError(doing: string, error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  const code = (error as { code?: unknown } | null)?.code;
  const isServers = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code);
  const kind = isServers ? (KINDS[code] ?? 'precondition') : 'unavailable';
  return new StorageError(kind, `could not ${doing}: ${errorText(error)}`, { cause: error });
}

export async function inDatabase<T>(doing: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw fromDatabaseError(doing, error);
  }
}
