/** Committed WAL is one byte string: what lies on the safekeepers below the smallest commit position must be equal. */
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { TimelineAdminServiceClient } from '#gen/neon/safekeeper/v1/timeline_admin.js';
import type { TenantTimelineId } from '#gen/neon/common/v1/common.js';
import type { TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { formatLsn, lsn, lsnFromWire, lsnMin, lsnToWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { TestStack } from '../harness/stack.js';

const PIECE_BYTES = 16 << 20;
const DIGEST_DEADLINE_MS = 120_000;

interface Copy {
  readonly name: string;
  readonly addr: string;
  readonly ttid: TenantTimelineId;
  readonly status: TimelineStatus;
}

export interface WalReport {
  readonly bytes: number;
  readonly end: Lsn;
  readonly problems: readonly string[];
}

/** For a stack with one timeline to which nobody writes. */
export async function compareCommittedWal(stack: TestStack): Promise<WalReport> {
  const { services } = await stack.status();
  const keepers = services.filter(({ name }) => name.startsWith('safekeeper-'));
  const copies = await Promise.all(keepers.map(({ name, grpcAddr }) => openCopy(name, grpcAddr)));
  const [first] = copies;
  if (first === undefined) throw new Error('the stack has no safekeepers');
  const start = lsnFromWire(first.status.timelineStartLsn);
  const end = copies.map(({ status }) => lsnFromWire(status.commitLsn)).reduce(lsnMin);
  const problems: string[] = [];
  for (const { name, status } of copies) {
    const [commit, flush] = [lsnFromWire(status.commitLsn), lsnFromWire(status.flushLsn)];
    if (commit > flush)
      problems.push(`${name}: committed to ${formatLsn(commit)}, durable to ${formatLsn(flush)} only`);
    if (lsnFromWire(status.timelineStartLsn) !== start) problems.push(`${name}: the timeline begins elsewhere`);
  }
  // By the safekeepers themselves: what is not on a disk any more they read from the object store, which is compared with it.
  for (let at = start; at < end && problems.length === 0; at = lsn(at + PIECE_BYTES)) {
    const until = lsnMin(end, lsn(at + PIECE_BYTES));
    const digests = await Promise.all(copies.map((copy) => digest(copy, at, until)));
    if (new Set(digests).size === 1) continue;
    const named = copies.map(({ name }, index) => `${name} ${digests[index]}`);
    problems.push(`committed WAL differs between ${formatLsn(at)} and ${formatLsn(until)}: ${named.join(', ')}`);
  }
  return { bytes: end - start, end, problems };
}

async function openCopy(name: string, addr: string): Promise<Copy> {
  const client = createClient(SafekeeperServiceClient, addr);
  try {
    const { timelines } = await callUnary(client, client.listTimelines, { tenantId: '' });
    const [status] = timelines;
    if (status?.ttid === undefined || timelines.length !== 1)
      throw new Error(`${name} has ${timelines.length} timelines`);
    return { name, addr, status, ttid: status.ttid };
  } finally {
    client.close();
  }
}

async function digest({ addr, ttid }: Copy, from: Lsn, until: Lsn): Promise<string> {
  const client = createClient(TimelineAdminServiceClient, addr);
  const request = { ttid, fromLsn: lsnToWire(from), untilLsn: lsnToWire(until) };
  try {
    return (await callUnary(client, client.getDigest, request, { deadlineMs: DIGEST_DEADLINE_MS })).sha256;
  } finally {
    client.close();
  }
}
