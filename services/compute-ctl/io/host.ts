/** What this machine has for a Postgres: the server binary, and the account that runs it. Found out once, before a spec is there. */
import { stat } from 'node:fs/promises';
import { postgresAccount } from './account.js';
import type { Account } from './account.js';
import { findPostgres } from './postgres-process.js';
import type { PostgresBinary } from './postgres-process.js';

export interface HostFacts {
  readonly binary: PostgresBinary;
  readonly account: Account | null;
}

/** Asking a server for its version takes a process, which a start should not wait for. */
export class Host {
  private readonly pgbin: string;
  private readonly pgUser: string;
  private known: Promise<{ facts: HostFacts; stamp: string }>;

  constructor(pgbin: string, pgUser: string) {
    this.pgbin = pgbin;
    this.pgUser = pgUser;
    this.known = this.look();
    this.known.catch(() => undefined);
  }

  /** It was asked for the same server and account. */
  serves(wanted: { readonly pgbin: string; readonly pgUser: string }): boolean {
    return wanted.pgbin === this.pgbin && wanted.pgUser === this.pgUser;
  }

  /** Looked up anew when it failed before, or the server's binary was replaced since. Throws StorageError `invalid`. */
  async facts(): Promise<HostFacts> {
    const before = await this.known.catch(() => null);
    if (before === null || (await stampOf(before.facts.binary.path)) !== before.stamp) {
      this.known = this.look();
      this.known.catch(() => undefined);
    }
    return (await this.known).facts;
  }

  private async look(): Promise<{ facts: HostFacts; stamp: string }> {
    const [binary, account] = await Promise.all([findPostgres(this.pgbin), postgresAccount(this.pgUser)]);
    return { facts: { binary, account }, stamp: await stampOf(binary.path) };
  }
}

/** Changes whenever a package replaces the file. */
async function stampOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => null);
  return found === null ? '' : `${found.ino} ${found.mtimeMs} ${found.size}`;
}
