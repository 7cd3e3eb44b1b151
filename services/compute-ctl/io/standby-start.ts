/** The data directory of a server that does not write: a hot standby behind the safekeepers, or one that stays at one position. */
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, type Lsn } from '#shared/core/lsn.js';
import type { ComputeSpec } from '../core/spec.js';
import { BackupFetch } from './backup-fetch.js';
import type { BackupFetchOptions } from './backup-fetch.js';
import { LsnLease } from './lsn-lease.js';
import type { TimelineFacts } from './pageserver-client.js';
import { writeOwned } from './pgdata.js';

export interface StandbyStartOptions {
  readonly spec: ComputeSpec;
  readonly facts: TimelineFacts;
  readonly fetch: BackupFetchOptions;
}

export interface StandbyStart {
  readonly startLsn: Lsn;
  /** Of a static server; null for one that follows, which the page server knows of through the safekeepers. */
  readonly lease: LsnLease | null;
}

/** Fills the data directory. The lease, if any, is taken first, so that the position cannot go away in between. */
export async function prepareStandby(options: StandbyStartOptions): Promise<StandbyStart> {
  const { facts, fetch } = options;
  const { mode } = options.spec;
  const { addr, ttid, log, signal } = fetch;
  const asked = mode.kind === 'static' ? mode.lsn : INVALID_LSN;
  const lease = mode.kind === 'static' ? await LsnLease.take({ addr, ttid, lsn: asked, log, signal }) : null;
  try {
    const header = await new BackupFetch(fetch, asked).done;
    if (header.systemId !== facts.systemId || header.segSize !== facts.segSize) {
      throw new StorageError('corrupt', 'the base backup belongs to another database system');
    }
    writeOwned(join(fetch.pgdata, 'standby.signal'), '', fetch.account);
    return { startLsn: header.lsn, lease };
  } catch (error) {
    lease?.close();
    throw error;
  }
}
