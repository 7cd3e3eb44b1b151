/** A base backup on its way into the data directory, begun before anybody waits for it, tried again while the page server cannot be reached. */
import type { TenantTimelineId } from '#shared/core/ids.js';
import { INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { StartTimings } from '../core/status.js';
import type { Account } from './account.js';
import { fetchBaseBackup } from './base-backup.js';
import type { BaseBackupHeader } from './base-backup.js';
import { retryUnavailable } from './retry.js';

export interface BackupFetchOptions {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  /** See BaseBackupRequest. */
  readonly replica: boolean;
  /** It is there. */
  readonly pgdata: string;
  readonly account: Account | null;
  readonly log: Logger;
  readonly timings: StartTimings;
  readonly signal: AbortSignal;
}

export class BackupFetch {
  /** Resolves with where it is, before the data comes; rejects never. */
  readonly located: Promise<Lsn>;
  readonly done: Promise<BaseBackupHeader>;
  /** INVALID_LSN until it is located, when the newest position was asked. */
  lsn: Lsn;
  private readonly options: BackupFetchOptions;
  private readonly aborter = new AbortController();
  private readonly signal: AbortSignal;
  private readonly locate: (lsn: Lsn) => void;

  /** `lsn`: INVALID_LSN = the newest position. `after`: one that fills the same directory and was given up. */
  constructor(options: BackupFetchOptions, lsn: Lsn, after: BackupFetch | null = null) {
    this.options = options;
    this.lsn = lsn;
    this.signal = AbortSignal.any([this.aborter.signal, options.signal]);
    const { promise, resolve } = Promise.withResolvers<Lsn>();
    this.located = promise;
    this.locate = resolve;
    this.done = this.run(after);
    this.done.catch(() => undefined);
  }

  abort(): void {
    this.aborter.abort();
  }

  private async run(after: BackupFetch | null): Promise<BaseBackupHeader> {
    after?.abort();
    await after?.done.catch(() => undefined);
    const { log } = this.options;
    let isFresh = after === null;
    return retryUnavailable({ what: 'fetch the base backup', log, signal: this.signal }, () => {
      const isFirst = isFresh;
      isFresh = false;
      return this.once(isFirst);
    });
  }

  private async once(isFresh: boolean): Promise<BaseBackupHeader> {
    const { addr, ttid, replica, pgdata, account, timings } = this.options;
    const startedMs = performance.now();
    const onHeader = (header: BaseBackupHeader): void => {
      // When it is tried again it stays where it was.
      if (this.lsn === INVALID_LSN) this.lsn = header.lsn;
      this.locate(this.lsn);
    };
    const request = {
      addr,
      ttid,
      lsn: this.lsn,
      replica,
      dir: pgdata,
      isFresh,
      account,
      signal: this.signal,
      onHeader,
    };
    const { header, bytes } = await fetchBaseBackup(request);
    timings.basebackupMs = performance.now() - startedMs;
    timings.basebackupBytes = bytes;
    return header;
  }
}
