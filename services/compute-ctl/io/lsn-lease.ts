/** Keeps a position of history readable: a lease at the page server, renewed while this lives. */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { retryUnavailable } from './retry.js';

/** Before the end of a lease it is renewed by this much, or at half of it. */
const MARGIN_MS = 60_000;
/** A renewal that failed is tried again. Also the least time between two. */
const RETRY_MS = 1_000;

export interface LeaseOptions {
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly lsn: Lsn;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

export class LsnLease {
  private readonly options: LeaseOptions;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;

  private constructor(options: LeaseOptions) {
    this.options = options;
  }

  /** Throws StorageError when the position is not readable any more. */
  static async take(options: LeaseOptions): Promise<LsnLease> {
    const lease = new LsnLease(options);
    const { log, signal } = options;
    const what = `lease LSN ${formatLsn(options.lsn)}`;
    lease.schedule(await retryUnavailable({ what, log, signal }, () => lease.renew()));
    return lease;
  }

  /** The lease ends by itself, some time later. */
  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  /** Returns how long it is good. */
  private async renew(): Promise<number> {
    const { addr, ttid, lsn } = this.options;
    const client = createClient(ManagementServiceClient, addr);
    try {
      const { validUntilMs } = await callUnary(client, client.leaseLsn, { ttid: { ...ttid }, lsn: lsnToWire(lsn) });
      return Number(validUntilMs) - Date.now();
    } finally {
      client.close();
    }
  }

  private schedule(validMs: number): void {
    if (this.closed) return;
    this.timer = setTimeout(() => void this.renewed(), Math.max(RETRY_MS, validMs - MARGIN_MS, validMs / 2));
  }

  private async renewed(): Promise<void> {
    try {
      this.schedule(await this.renew());
    } catch (error) {
      const { log, lsn } = this.options;
      if (!this.closed)
        log.warn({ reason: errorText(error), lsn: formatLsn(lsn) }, 'could not renew the lease of the LSN');
      this.schedule(2 * RETRY_MS);
    }
  }
}
