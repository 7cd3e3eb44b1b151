/** Which system account runs Postgres: itself, or an unprivileged one when compute_ctl runs as root, which Postgres refuses. */
import { readFile } from 'node:fs/promises';
import { StorageError } from '#shared/core/errors.js';

export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Null when not root: files and processes are then our own. Throws `invalid` when the account does not exist. */
export async function postgresAccount(name: string): Promise<Account | null> {
  if (process.getuid?.() !== 0) return null;
  for (const line of (await readFile('/etc/passwd', 'utf8')).split('\n')) {
    const [user, , uid, gid] = line.split(':');
    if (user === name && Number(uid) > 0) return { name, uid: Number(uid), gid: Number(gid) };
  }
  throw new StorageError(
    'invalid',
    `running as root, and the account "${name}" for Postgres does not exist; name one by --pg-user`,
  );
}
