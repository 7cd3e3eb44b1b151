/** The data directory of a server that does not write: a hot standby behind the safekeepers, or one that stays at one position. */
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ComputeSpec } from '../core/spec.js';
import type { StartTimings } from '../core/status.js';
import type { Account } from './account.js';
import { fetchBaseBackup } from './base-backup.js';
import { LsnLease } from './lsn-lease.js';
import type { TimelineFacts } from './pageserver-client.js';
import { writeOwned } from './pgdata.js';
import { retryUnavailable } from './retry.js';

export interface StandbyStartOptions {
  readonly spec: ComputeSpec;
  readonly facts: TimelineFacts;
  readonly pgdata: string;
  readonly account: Account | null;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly timings: StartTimings;
}

export interface StandbyStart {
  readonly startLsn: Lsn;
  /** Of a static server; null for one that follows, which the page server knows of through the safekeepers. */
  readonly lease: LsnLease | null;
}

/** Fills the data directory. The lease, if any, is taken first, so that the position cannot go away in between. */
export async function prepareStandby(options: StandbyStartOptions): Promise<StandbyStart> {
  const { spec, facts, pgdata, account, log, signal, timings } = options;
  const { mode, ttid, pageserverGrpcAddr: addr } = spec;
  const asked = mode.kind === 'static' ? mode.lsn : INVALID_LSN;
  const lease = mode.kind === 'static' ? await LsnLease.take({ addr, ttid, lsn: asked, log, signal }) : null;
  const startedMs = performance.now();
  try {
    const request = { addr, ttid, lsn: asked, replica: true, dir: pgdata, account, signal, onHeader: () => undefined };
    const { header, bytes } = await retryUnavailable({ what: 'fetch the base backup', log, signal }, () =>
      fetchBaseBackup(request),
    );
    if (header.systemId !== facts.systemId || header.segSize !== facts.segSize) {
      throw new StorageError('corrupt', 'the base backup belongs to another database system');
    }
    writeOwned(join(pgdata, 'standby.signal'), '', account);
    timings.basebackupMs = performance.now() - startedMs;
    timings.basebackupBytes = bytes;
    return { startLsn: header.lsn, lease };
  } catch (error) {
    lease?.close();
    throw error;
  }
}
