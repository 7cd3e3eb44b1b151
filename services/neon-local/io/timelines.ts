/** Creates, deletes and asks for tenants and timelines on the storage services. Every step may be repeated after a failure. */
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { LsnByTimestampKind } from '#gen/neon/pageserver/v1/management.js';
import type { CreateTimelineRequest, TenantConfig, TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantId, TenantTimelineId } from '#shared/core/ids.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { Logger } from '#shared/runtime/log.js';
import { committedLsn } from '../core/committed-lsn.js';
import type { StorageStack } from './storage-stack.js';

/** Making a timeline imports an image or waits for WAL. */
const CREATE_DEADLINE_MS = 120_000;
/** What a compute of this stack runs; the exact minor version does not matter to the safekeepers. */
const PG_VERSION_NUM_UNIT = 10_000;

/** How long the page server may take to have what the safekeepers have. */
const CATCH_UP_LIMIT_MS = 60_000;
const CATCH_UP_POLL_MS = 20;

export interface ParentPoint {
  readonly timelineId: string;
  /** INVALID_LSN = everything committed so far. */
  readonly lsn: Lsn;
}

export class Timelines {
  private readonly stack: StorageStack;
  private readonly storageOf: (tenantId: TenantId) => string;
  private readonly log: Logger;

  /** `storageOf` tells on which storage a tenant lies. */
  constructor(stack: StorageStack, storageOf: (tenantId: TenantId) => string, log: Logger) {
    this.stack = stack;
    this.storageOf = storageOf;
    this.log = log;
  }

  /** Calls the page server of a storage. */
  async onStorage<T>(storageName: string, act: (client: ManagementServiceClient) => Promise<T>): Promise<T> {
    const client = createClient(ManagementServiceClient, this.stack.pageserverAddr(storageName, 'grpc'));
    try {
      return await act(client);
    } finally {
      client.close();
    }
  }

  private async onPageserver<T>(tenantId: TenantId, act: (client: ManagementServiceClient) => Promise<T>): Promise<T> {
    return this.onStorage(this.storageOf(tenantId), act);
  }

  private async onSafekeeper<T>(addr: string, act: (client: SafekeeperServiceClient) => Promise<T>): Promise<T> {
    const client = createClient(SafekeeperServiceClient, addr);
    try {
      return await act(client);
    } finally {
      client.close();
    }
  }

  async createTenant(tenantId: TenantId): Promise<void> {
    await this.onPageserver(tenantId, (client) =>
      callUnary(client, client.createTenant, { tenantId }, { deadlineMs: CREATE_DEADLINE_MS }),
    );
  }

  /** Makes a timeline on the page server, then on the safekeepers; a quorum of them must take it. */
  async create(ttid: TenantTimelineId, parent: ParentPoint | null): Promise<TimelineInfo> {
    const timeline = await this.createOnPageserver(ttid, parent);
    await this.announce(ttid, timeline);
    return timeline;
  }

  /** Makes a timeline that is never written to: it only keeps the history below it. */
  hold(ttid: TenantTimelineId, parent: ParentPoint): Promise<TimelineInfo> {
    return this.createOnPageserver(ttid, parent);
  }

  private async createOnPageserver(ttid: TenantTimelineId, parent: ParentPoint | null): Promise<TimelineInfo> {
    const mode: CreateTimelineRequest['mode'] =
      parent === null
        ? { $case: 'bootstrap', value: { pgMajorVersion: 0 } }
        : { $case: 'branch', value: await this.branchMode(ttid, parent) };
    const { timeline } = await this.onPageserver(ttid.tenantId, (client) =>
      callUnary(client, client.createTimeline, { ttid, mode }, { deadlineMs: CREATE_DEADLINE_MS }),
    );
    if (timeline === undefined) throw new StorageError('internal', 'the page server answered without a timeline');
    return timeline;
  }

  /** Lets a timeline of the page server begin on the safekeepers where its last record ends. */
  async announce(ttid: TenantTimelineId, timeline: TimelineInfo): Promise<void> {
    const addrs = this.stack.safekeeperAddrs();
    const results = await Promise.allSettled(addrs.map((addr) => this.createOnSafekeeper(addr, ttid, timeline)));
    const failures = results.filter((result) => result.status === 'rejected').map((result) => errorText(result.reason));
    if (addrs.length - failures.length < Math.floor(addrs.length / 2) + 1) {
      throw new StorageError('unavailable', `too few safekeepers took the new timeline: ${failures.join('; ')}`);
    }
    // The others learn of it from the walproposer.
    if (failures.length > 0) this.log.warn({ ...ttid, failures }, 'some safekeepers did not take the new timeline');
  }

  private async branchMode(ttid: TenantTimelineId, parent: ParentPoint) {
    const parentTtid = { tenantId: ttid.tenantId, timelineId: parent.timelineId };
    const at = parent.lsn === INVALID_LSN ? await this.head(parentTtid) : parent.lsn;
    return { ancestorTimelineId: parent.timelineId, ancestorStartLsn: lsnToWire(at) };
  }

  private createOnSafekeeper(addr: string, ttid: TenantTimelineId, timeline: TimelineInfo) {
    const request = {
      ttid,
      startLsn: timeline.lastRecordLsn,
      pgVersion: timeline.pgMajorVersion * PG_VERSION_NUM_UNIT,
      systemId: timeline.systemId,
      walSegSize: timeline.walSegSize,
      mconf: undefined,
    };
    return this.onSafekeeper(addr, (client) => callUnary(client, client.createTimeline, request));
  }

  /** Deletes a timeline everywhere; one that does not exist is fine. */
  async delete(ttid: TenantTimelineId): Promise<void> {
    await this.onPageserver(ttid.tenantId, (client) =>
      callUnary(client, client.deleteTimeline, { ttid }, { deadlineMs: CREATE_DEADLINE_MS }),
    ).catch((error: unknown) => {
      if (errorKind(error) !== 'not-found') throw error;
    });
    await this.forgetOnSafekeepers(ttid);
  }

  async forgetOnSafekeepers(ttid: TenantTimelineId): Promise<void> {
    const addrs = this.stack.safekeeperAddrs();
    await Promise.all(
      addrs.map((addr) => this.onSafekeeper(addr, (client) => callUnary(client, client.deleteTimeline, { ttid }))),
    );
  }

  /** Where committed WAL of a timeline ends; INVALID_LSN when it was never written to. */
  async head(ttid: { tenantId: string; timelineId: string }): Promise<Lsn> {
    const addrs = this.stack.safekeeperAddrs();
    const results = await Promise.allSettled(
      addrs.map((addr) => this.onSafekeeper(addr, (client) => callUnary(client, client.getTimelineStatus, { ttid }))),
    );
    const statuses = results.flatMap((result) =>
      result.status === 'fulfilled' && result.value.status ? [result.value.status] : [],
    );
    return committedLsn(statuses.map(positionsOf), addrs.length);
  }

  /** Waits until the page server has everything committed so far, and tells up to where that is. */
  async catchUp(ttid: TenantTimelineId): Promise<TimelineInfo> {
    const head = await this.head(ttid);
    const deadline = Date.now() + CATCH_UP_LIMIT_MS;
    for (;;) {
      const { timeline } = await this.onPageserver(ttid.tenantId, (client) =>
        callUnary(client, client.getTimeline, { ttid }),
      );
      if (timeline && lsnFromWire(timeline.lastRecordLsn) >= head) return timeline;
      if (Date.now() > deadline) {
        throw new StorageError('unavailable', `the page server did not receive the WAL of ${ttid.timelineId} in time`);
      }
      await new Promise((resolve) => setTimeout(resolve, CATCH_UP_POLL_MS));
    }
  }

  /** Everything committed so far is in the object store when this resolves. */
  async flush(ttid: TenantTimelineId): Promise<TimelineInfo> {
    const timeline = await this.catchUp(ttid);
    const { remoteConsistentLsn } = await this.onPageserver(ttid.tenantId, (client) =>
      callUnary(client, client.checkpoint, { ttid }, { deadlineMs: CREATE_DEADLINE_MS }),
    );
    if (remoteConsistentLsn < timeline.lastRecordLsn) {
      throw new StorageError('unavailable', `timeline ${ttid.timelineId} could not be written to its storage`);
    }
    return timeline;
  }

  /** Null when the page server cannot be asked. */
  async info(ttid: TenantTimelineId): Promise<TimelineInfo | null> {
    try {
      return await this.onPageserver(ttid.tenantId, async (client) => {
        const response = await callUnary(client, client.getTimeline, { ttid }, { deadlineMs: 2_000 });
        return response.timeline ?? null;
      });
    } catch {
      return null;
    }
  }

  /** The position after the last commit at or before a time. Throws StorageError `invalid` when history does not reach back so far. */
  async lsnAtTime(ttid: TenantTimelineId, timeMs: number): Promise<Lsn> {
    await this.catchUp(ttid);
    const { kind, lsn } = await this.onPageserver(ttid.tenantId, (client) =>
      callUnary(
        client,
        client.getLsnByTimestamp,
        { ttid, timestampMs: BigInt(Math.round(timeMs)) },
        { deadlineMs: CATCH_UP_LIMIT_MS },
      ),
    );
    if (kind === LsnByTimestampKind.PRESENT || kind === LsnByTimestampKind.FUTURE) return lsnFromWire(lsn);
    const when = new Date(timeMs).toISOString();
    const why = kind === LsnByTimestampKind.NODATA ? 'there are no commits yet' : 'its history begins later';
    throw new StorageError('invalid', `there is nothing to go back to at ${when}: ${why}`);
  }

  /** Time of the last commit at or below a position, milliseconds since the Unix epoch; 0 = not known. */
  async timeOfLsn(ttid: TenantTimelineId, at: Lsn): Promise<bigint> {
    try {
      return await this.onPageserver(ttid.tenantId, async (client) => {
        const request = { ttid, lsn: lsnToWire(at) };
        return (await callUnary(client, client.getTimestampOfLsn, request)).timestampMs;
      });
    } catch {
      return 0n;
    }
  }

  tenantConfig(tenantId: TenantId): Promise<{ overrides: TenantConfig; effective: TenantConfig }> {
    return this.onPageserver(tenantId, async (client) => {
      const { overrides, effective } = await callUnary(client, client.getTenantConfig, { tenantId });
      if (!overrides || !effective) throw new StorageError('internal', 'the page server answered without settings');
      return { overrides, effective };
    });
  }

  async setTenantConfig(tenantId: TenantId, config: TenantConfig): Promise<void> {
    await this.onPageserver(tenantId, (client) => callUnary(client, client.setTenantConfig, { tenantId, config }));
  }

  /** Gives up history that the two rules do not keep. */
  async collect(ttid: TenantTimelineId, rules: { timeS: number; sizeBytes: number }): Promise<Lsn> {
    const request = { ttid, gcHorizonBytes: BigInt(Math.round(rules.sizeBytes)), pitrIntervalS: rules.timeS };
    const { cutoffLsn } = await this.onPageserver(ttid.tenantId, (client) =>
      callUnary(client, client.runGc, request, { deadlineMs: CREATE_DEADLINE_MS }),
    );
    return lsnFromWire(cutoffLsn);
  }
}

function positionsOf(status: TimelineStatus) {
  return {
    commitLsn: lsnFromWire(status.commitLsn),
    flushLsn: lsnFromWire(status.flushLsn),
    lastLogTerm: Number(status.lastLogTerm),
  };
}
