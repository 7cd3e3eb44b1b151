/**
 * How long the creation of a branch takes as the database grows, at the head and in the past, and the base backup behind it, with which a
 * compute on it begins: some branches are made, and deleted again, each time the database has doubled. No WAL comes meanwhile and the
 * page server is at rest, so that the size of the database is what differs.
 */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { PageServiceClient } from '#gen/neon/pageserver/v1/page_service.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseTtid } from '#shared/core/ids.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { percentile } from '../bench/stats.js';

const MIB = 1 << 20;
const FIRST_BYTES = 10 * MIB;
/** Of each kind. */
const BRANCHES = 15;
const CALL = { deadlineMs: 600_000 };

interface Times {
  readonly createMs: number;
  readonly backupMs: number;
}

interface Measured {
  readonly sizeBytes: number;
  readonly layerCount: number;
  readonly atHead: readonly Times[];
  readonly inPast: readonly Times[];
}

export interface State {
  readonly sizeBytes: number;
  readonly layerCount: number;
  readonly head: number;
  /** Ends of records below the head, any of them. */
  readonly past: () => number;
}

export class BranchTimes implements Disposable {
  private readonly management: ManagementServiceClient;
  private readonly pages: PageServiceClient;
  private readonly parent: TenantTimelineId;
  private readonly measured: Measured[] = [];
  private nextBytes = FIRST_BYTES;
  private branchCount = 0;

  constructor(grpc: string, parent: TenantTimelineId) {
    this.management = createClient(ManagementServiceClient, grpc);
    this.pages = createClient(PageServiceClient, grpc);
    this.parent = parent;
  }

  isDue(sizeBytes: number): boolean {
    return sizeBytes >= this.nextBytes;
  }

  async note({ sizeBytes, layerCount, head, past }: State): Promise<void> {
    while (this.nextBytes <= sizeBytes) this.nextBytes *= 2;
    const [atHead, inPast]: [Times[], Times[]] = [[], []];
    for (let i = 0; i < BRANCHES; i++) {
      atHead.push(await this.createOne(head));
      inPast.push(await this.createOne(past()));
    }
    this.measured.push({ sizeBytes, layerCount, atHead, inPast });
  }

  private async createOne(at: number): Promise<Times> {
    const { management, parent } = this;
    const timelineId = (0xb0000000 + this.branchCount++).toString(16).repeat(4);
    const ttid = parseTtid({ tenantId: parent.tenantId, timelineId });
    const point = { ancestorTimelineId: parent.timelineId, ancestorStartLsn: BigInt(at) };
    const mode = { $case: 'branch', value: point } as const;
    const startedMs = performance.now();
    await callUnary(management, management.createTimeline, { ttid, mode }, CALL);
    const createdMs = performance.now();
    let pieces = 0;
    for await (const _ of this.pages.getBaseBackup({ ttid, lsn: 0n, replica: false })) pieces++;
    const endedMs = performance.now();
    if (pieces === 0) throw new Error('an empty base backup');
    await callUnary(management, management.deleteTimeline, { ttid }, CALL);
    return { createMs: createdMs - startedMs, backupMs: endedMs - createdMs };
  }

  lines(): string[] {
    const [first] = this.measured;
    if (first === undefined) return [];
    return this.measured.map(({ sizeBytes, layerCount, atHead, inPast }) => {
      const size = `${(sizeBytes / MIB).toFixed(0)} MiB`;
      return (
        `branch of ${size}, ${layerCount} layers, median and worst of ${BRANCHES} in ms: ` +
        `at the head ${spread(atHead, 'createMs')}, in the past ${spread(inPast, 'createMs')}; ` +
        `its base backup ${spread(atHead, 'backupMs')}, in the past ${spread(inPast, 'backupMs')}`
      );
    });
  }

  [Symbol.dispose](): void {
    this.management.close();
    this.pages.close();
  }
}

function spread(times: readonly Times[], what: keyof Times): string {
  const sorted = times.map((each) => each[what]).sort((a, b) => a - b);
  return `${percentile(sorted, 0.5).toFixed(1)} / ${sorted.at(-1)!.toFixed(1)}`;
}
