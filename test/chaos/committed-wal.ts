/** Committed WAL is one byte string: what lies on the safekeepers below the smallest commit position must be equal. */
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { formatLsn, lsn, lsnFromWire, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { segmentName, segmentNumber, segmentOffset, segmentStart } from '#shared/postgres/wal-layout.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { TestStack } from '../harness/stack.js';

interface Copy {
  readonly name: string;
  readonly dir: string;
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
  const copies = await Promise.all(keepers.map(({ name, grpcAddr }) => openCopy(stack, name, grpcAddr)));
  const [first, ...others] = copies;
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
  const segSize = first.status.walSegSize;
  for (let at = start; at < end; at = lsn(segmentStart(at, segSize) + segSize)) {
    const range = { at, end: lsnMin(end, lsn(segmentStart(at, segSize) + segSize)), segSize };
    const bytes = readRange(first, range);
    for (const other of others) {
      const theirs = readRange(other, range);
      const offset = bytes.findIndex((byte, i) => byte !== theirs[i]);
      if (bytes.equals(theirs)) continue;
      problems.push(`committed WAL differs at ${formatLsn(lsn(at + offset))} between ${first.name} and ${other.name}`);
    }
  }
  return { bytes: end - start, end, problems };
}

async function openCopy(stack: TestStack, name: string, addr: string): Promise<Copy> {
  const client = createClient(SafekeeperServiceClient, addr);
  try {
    const { timelines } = await callUnary(client, client.listTimelines, { tenantId: '' });
    const [status] = timelines;
    if (status?.ttid === undefined || timelines.length !== 1)
      throw new Error(`${name} has ${timelines.length} timelines`);
    return { name, status, dir: join(stack.repoDir, 'data', name, status.ttid.tenantId, status.ttid.timelineId) };
  } finally {
    client.close();
  }
}

/** [at, end) lies in one segment. */
function readRange(copy: Copy, range: { at: Lsn; end: Lsn; segSize: number }): Buffer {
  const { at, end, segSize } = range;
  const path = join(copy.dir, segmentName(segmentNumber(at, segSize), segSize));
  const file = openSync(existsSync(path) ? path : `${path}.partial`, 'r');
  try {
    const bytes = Buffer.alloc(end - at);
    const count = readSync(file, bytes, 0, bytes.length, segmentOffset(at, segSize));
    if (count !== bytes.length) throw new Error(`${path} is too short: ${count} bytes of ${bytes.length}`);
    return bytes;
  } finally {
    closeSync(file);
  }
}
