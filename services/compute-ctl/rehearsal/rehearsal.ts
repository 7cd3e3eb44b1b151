/**
 * Starts a compute for nothing, with stand-ins for storage and without Postgres: a process that waits for its spec has then loaded, compiled and
 * optimised the code of a start, and touched the memory that it needs. The first time costs more than twice the processor time of the
 * second, and while a compute starts the processor is what is short.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorText } from '#shared/core/errors.js';
import { INVALID_LSN } from '#shared/core/lsn.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import type { Logger } from '#shared/runtime/log.js';
import { silentLogger } from '#shared/runtime/log.js';
import { likelySpec, likelyConf } from '../core/likely-spec.js';
import { noTimings } from '../core/status.js';
import { BackupFetch } from '../io/backup-fetch.js';
import { timelineFacts } from '../io/pageserver-client.js';
import { recreateDir, writeSkeleton } from '../io/pgdata.js';
import { StorageSession } from '../io/storage-session.js';
import { PG_MAJOR, SEG_SIZE, standIns } from './stand-ins.js';

const SAFEKEEPERS = 3;
/** What each is worth was measured: docs/decisions/0019-rehearsal.md. */
const TIMES = 3;
const WAL_WINDOW_BYTES = 1 << 20;
const LIMIT_MS = 10_000;
const SCRATCH = /^neon-rehearsal-(\d+)-/;

/**
 * Ends early when `signal` is aborted: it is in the way of a real start. False: it did not come to its end. Never rejects: a start works
 * without.
 */
export async function rehearse(log: Logger, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  try {
    const scratch = await makeScratch();
    try {
      const server = await startGrpcServer({ addr: '127.0.0.1:0', log, services: await standIns() });
      try {
        for (let time = 0; time < TIMES && !limited.aborted; time++) await once(server.addr, scratch, limited);
      } finally {
        await server.shutdown(0);
      }
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
    return !limited.aborted;
  } catch (error) {
    if (!signal.aborted) log.debug({ reason: errorText(error) }, 'the rehearsal of a start failed');
    return false;
  }
}

/** A directory of its own. Those of processes that were killed in the middle of a rehearsal are removed. */
async function makeScratch(): Promise<string> {
  for (const name of await readdir(tmpdir())) {
    const pid = SCRATCH.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined);
  }
  return mkdtemp(join(tmpdir(), `neon-rehearsal-${process.pid}-`));
}

async function once(addr: string, scratch: string, signal: AbortSignal): Promise<void> {
  likelyConf();
  const spec = { ...likelySpec(), pageserverGrpcAddr: addr, safekeepers: Array<string>(SAFEKEEPERS).fill(addr) };
  const pgdata = join(scratch, 'pgdata');
  await recreateDir(pgdata, null);
  writeSkeleton(pgdata, { pgMajor: PG_MAJOR, segSize: SEG_SIZE, account: null });
  const facts = await timelineFacts(addr, spec.pageserverTtid, signal);
  const timings = noTimings();
  const common = { log: silentLogger, timings };
  const fetch = { ...common, addr, ttid: spec.pageserverTtid, replica: false, pgdata, account: null, signal };
  const session = new StorageSession(
    {
      ...common,
      spec,
      facts,
      pgVersion: PG_MAJOR * 10_000,
      fetch,
      walWindowBytes: WAL_WINDOW_BYTES,
      onCommitted: () => undefined,
      onFeedback: () => undefined,
      onStandbyFeedback: () => undefined,
      onFenced: () => undefined,
    },
    new BackupFetch(fetch, INVALID_LSN),
    signal,
  );
  try {
    await session.prepare();
  } finally {
    session.close();
  }
}
