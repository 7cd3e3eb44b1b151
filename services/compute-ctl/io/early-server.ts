/**
 * A server that is started before its data is there, or even before anybody knows which timeline it will be of: it links, checks itself and
 * sets up its memory meanwhile. All that it needs is an empty directory and a configuration, which may be a guess.
 */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import { likelyConf } from '../core/likely-spec.js';
import type { Account } from './account.js';
import type { Host, HostFacts } from './host.js';
import { recreateDir, writeOwned, writeSkeleton } from './pgdata.js';
import { PostgresProcess, stopLeftover } from './postgres-process.js';

/** initdb's default. A server that began for another size of WAL segments is started again. */
const USUAL_SEG_SIZE = 16 << 20;

export interface EarlyServer {
  readonly process: PostgresProcess;
  readonly facts: HostFacts;
  readonly segSize: number;
}

export interface EarlyServerOptions {
  readonly pgdata: string;
  readonly host: Host;
  readonly log: Logger;
}

/** An empty data directory. Nothing works in it any more. */
export async function clearGround({ pgdata, host, log }: EarlyServerOptions): Promise<HostFacts> {
  const [facts] = await Promise.all([host.facts(), stopLeftover(pgdata, log)]);
  await recreateDir(pgdata, facts.account);
  return facts;
}

/** In a directory that `clearGround` made, and that a base backup may be filling by now. It waits at its first gate. */
export function beginServer(
  { pgdata, log }: EarlyServerOptions,
  facts: HostFacts,
  { conf, segSize = USUAL_SEG_SIZE }: { conf: string; segSize?: number },
): EarlyServer {
  const { binary, account } = facts;
  writeSkeleton(pgdata, { pgMajor: Math.floor(binary.version / 10_000), segSize, account });
  writeConf(pgdata, conf, account);
  return { process: new PostgresProcess({ bin: binary.path, pgdata, account, log }), facts, segSize };
}

/** As `beginServer`, when the configuration is not a guess: it goes on as far as it can without its data. */
export function startServer(
  place: EarlyServerOptions,
  facts: HostFacts,
  start: { conf: string; segSize?: number },
): EarlyServer {
  const server = beginServer(place, facts, start);
  server.process.goOn();
  return server;
}

/** A server that is starting finds one or the other, and whole. */
function writeConf(pgdata: string, conf: string, account: Account | null): void {
  const path = join(pgdata, 'postgresql.conf');
  writeOwned(`${path}.new`, conf, account);
  renameSync(`${path}.new`, path);
}

/** For a process that waits for its spec. Never rejects: a start that finds none says itself what is wrong. */
export async function serverInAdvance(options: EarlyServerOptions): Promise<EarlyServer | null> {
  try {
    return beginServer(options, await clearGround(options), { conf: likelyConf() });
  } catch (error) {
    options.log.warn({ reason: errorText(error) }, 'could not start Postgres in advance');
    return null;
  }
}

/** It waits, the server's files are those that it was started from, and it goes on with this configuration. Else it is stopped. */
export async function canGoOn(
  early: EarlyServer,
  conf: string,
  { pgdata, host }: EarlyServerOptions,
): Promise<boolean> {
  const { process, facts } = early;
  if (process.exit === null && (await host.facts()) === facts) {
    writeConf(pgdata, conf, facts.account);
    if (await process.reconfigure()) return true;
  }
  await process.stop('immediate');
  return false;
}
