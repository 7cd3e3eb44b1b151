/**
 * How long the creation of a branch takes as the database grows: some are made, and deleted again, each time it has doubled. No WAL comes
 * meanwhile, so that the size of the database is what differs.
 */
import type { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseTtid } from '#shared/core/ids.js';
import { callUnary } from '#shared/rpc/client.js';

const MIB = 1 << 20;
const FIRST_BYTES = 10 * MIB;
const BRANCHES = 7;
const CALL = { deadlineMs: 600_000 };

interface Measured {
  readonly sizeBytes: number;
  readonly medianMs: number;
  readonly worstMs: number;
}

export class BranchTimes {
  private readonly management: ManagementServiceClient;
  private readonly parent: TenantTimelineId;
  private readonly measured: Measured[] = [];
  private nextBytes = FIRST_BYTES;
  private branchCount = 0;

  constructor(management: ManagementServiceClient, parent: TenantTimelineId) {
    this.management = management;
    this.parent = parent;
  }

  isDue(sizeBytes: number): boolean {
    return sizeBytes >= this.nextBytes;
  }

  /** `at`: an LSN that is in. */
  async note(sizeBytes: number, at: number): Promise<void> {
    while (this.nextBytes <= sizeBytes) this.nextBytes *= 2;
    const times: number[] = [];
    for (let i = 0; i < BRANCHES; i++) times.push(await this.createOne(at));
    times.sort((a, b) => a - b);
    this.measured.push({ sizeBytes, medianMs: times[BRANCHES >>> 1]!, worstMs: times.at(-1)! });
  }

  private async createOne(at: number): Promise<number> {
    const { management, parent } = this;
    const timelineId = (0xb0000000 + this.branchCount++).toString(16).repeat(4);
    const ttid = parseTtid({ tenantId: parent.tenantId, timelineId });
    const point = { ancestorTimelineId: parent.timelineId, ancestorStartLsn: BigInt(at) };
    const startedMs = performance.now();
    await callUnary(
      management,
      management.createTimeline,
      { ttid, mode: { $case: 'branch', value: point } } as const,
      CALL,
    );
    const ms = performance.now() - startedMs;
    await callUnary(management, management.deleteTimeline, { ttid }, CALL);
    return ms;
  }

  lines(): string[] {
    const [first] = this.measured;
    if (first === undefined) return [];
    return this.measured.map(({ sizeBytes, medianMs, worstMs }) => {
      const ratio = (medianMs / first.medianMs).toFixed(2);
      const size = `${(sizeBytes / MIB).toFixed(0)} MiB`;
      return `branch of ${size}: ${medianMs.toFixed(1)} ms in the median of ${BRANCHES} (${ratio} of the first), at worst ${worstMs.toFixed(1)} ms`;
    });
  }
}
