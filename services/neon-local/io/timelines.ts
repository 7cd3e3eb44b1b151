/** Creates tenants and timelines on the storage services. Every step may be repeated after a failure. */
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { CreateTimelineRequest, TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { errorText, StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { Logger } from '#shared/runtime/log.js';
import { committedLsn } from '../core/committed-lsn.js';
import type { StorageStack } from './storage-stack.js';

/** Making a timeline imports an image or waits for WAL. */
const CREATE_DEADLINE_MS = 120_000;
/** What a compute of this stack runs; the exact minor version does not matter to the safekeepers. */
const PG_VERSION_NUM_UNIT = 10_000;

export interface ParentPoint {
  readonly timelineId: string;
  /** INVALID_LSN = everything committed so far. */
  readonly lsn: Lsn;
}

export class Timelines {
  private readonly stack: StorageStack;
  private readonly log: Logger;

  constructor(stack: StorageStack, log: Logger) {
    this.stack = stack;
    this.log = log;
  }

  private async onPageserver<T>(act: (client: ManagementServiceClient) => Promise<T>): Promise<T> {
    const client = createClient(ManagementServiceClient, this.stack.addr('pageserver', 'grpc'));
    try {
      return await act(client);
    } finally {
      client.close();
    }
  }

  private async onSafekeeper<T>(addr: string, act: (client: SafekeeperServiceClient) => Promise<T>): Promise<T> {
    const client = createClient(SafekeeperServiceClient, addr);
    try {
      return await act(client);
    } finally {
      client.close();
    }
  }

  async createTenant(tenantId: string): Promise<void> {
    await this.onPageserver((client) =>
      callUnary(client, client.createTenant, { tenantId }, { deadlineMs: CREATE_DEADLINE_MS }),
    );
  }

  /** Makes a timeline on the page server, then on the safekeepers; a quorum of them must take it. */
  async create(ttid: TenantTimelineId, parent: ParentPoint | null): Promise<TimelineInfo> {
    const mode: CreateTimelineRequest['mode'] =
      parent === null
        ? { $case: 'bootstrap', value: { pgMajorVersion: 0 } }
        : { $case: 'branch', value: await this.branchMode(ttid, parent) };
    const { timeline } = await this.onPageserver((client) =>
      callUnary(client, client.createTimeline, { ttid, mode }, { deadlineMs: CREATE_DEADLINE_MS }),
    );
    if (timeline === undefined) throw new StorageError('internal', 'the page server answered without a timeline');
    const addrs = this.stack.safekeeperAddrs();
    const results = await Promise.allSettled(addrs.map((addr) => this.createOnSafekeeper(addr, ttid, timeline)));
    const failures = results.filter((result) => result.status === 'rejected').map((result) => errorText(result.reason));
    if (addrs.length - failures.length < Math.floor(addrs.length / 2) + 1) {
      throw new StorageError('unavailable', `too few safekeepers took the new timeline: ${failures.join('; ')}`);
    }
    // The others learn of it from the walproposer.
    if (failures.length > 0) this.log.warn({ ...ttid, failures }, 'some safekeepers did not take the new timeline');
    return timeline;
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

  /** Null when the page server cannot be asked. */
  async info(ttid: TenantTimelineId): Promise<TimelineInfo | null> {
    return this.onPageserver((client) => callUnary(client, client.getTimeline, { ttid }, { deadlineMs: 2_000 })).then(
      (response) => response.timeline ?? null,
      () => null,
    );
  }
}

function positionsOf(status: TimelineStatus) {
  return {
    commitLsn: lsnFromWire(status.commitLsn),
    flushLsn: lsnFromWire(status.flushLsn),
    lastLogTerm: Number(status.lastLogTerm),
  };
}
