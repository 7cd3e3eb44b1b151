/**
 * Makes a timeline on this safekeeper from what others have: from the most advanced of some safekeepers, or from the object store.
 *
 * The copy is what the source had at one moment of one term: its WAL is read bound to that term, and the term is looked at again at the
 * end. The copy's own term is the highest that any of the sources knew, so that no vote is given here in an older one.
 */
import { StorageError, errorText } from '#shared/core/errors.js';
import { formatTtid, type TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn, lsnFromWire, lsnMax, lsnMin, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { compareLogs, lastLogTerm } from '#shared/consensus/term-history.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import { segmentNumber, segmentOffset, segmentStart } from '#shared/postgres/wal-layout.js';
import {
  SafekeeperServiceClient,
  WalServiceClient,
  type StreamWalResponse,
  type TimelineStatus,
} from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { ControlState, Membership, PartialObject } from '../core/acceptor-types.js';
import { isMember } from '../core/membership.js';
import { controlFromStatus } from '../rpc/conversion.js';
import type { Timeline } from './timeline.js';
import type { Timelines } from './timelines.js';
import type { WalObjects } from './wal-objects.js';
import type { WalStorage } from './wal-storage.js';

const STATUS_DEADLINE_MS = 5_000;
/** A source may change its term while it is read; then everything is done again. */
const ATTEMPTS_MAX = 5;

export interface PullDeps {
  readonly nodeId: number;
  readonly timelines: Timelines;
  readonly objects: WalObjects | null;
}

export interface PullRequest {
  readonly ttid: TenantTimelineId;
  /** host:port of safekeepers that may have it. */
  readonly sourceAddrs: readonly string[];
  /** Null: as the source is. */
  readonly membership: Membership | null;
}

export interface Pulled {
  readonly timeline: Timeline;
  readonly source: string;
}

interface Source {
  readonly addr: string;
  readonly status: TimelineStatus;
  readonly control: ControlState;
  readonly lastLogTerm: number;
  readonly flushLsn: Lsn;
}

export async function pullTimeline(deps: PullDeps, request: PullRequest): Promise<Pulled> {
  for (let attempt = 1; ; attempt++) {
    const problems: string[] = [];
    const sources = await askAll(request, problems);
    const best = sources.reduce<Source | null>(
      (found, one) => (found === null || compareLogs(one, found) > 0 ? one : found),
      null,
    );
    try {
      if (best !== null) return await pullFromPeer(deps, request, best, sources);
      return await pullFromStore(deps, request, problems);
    } catch (error) {
      const isPassing = error instanceof StorageError && error.kind === 'unavailable';
      if (!isPassing || attempt >= ATTEMPTS_MAX) throw error;
    }
  }
}

/** Those that answer and have any WAL. */
async function askAll({ ttid, sourceAddrs }: PullRequest, problems: string[]): Promise<Source[]> {
  const asked = await Promise.allSettled(sourceAddrs.map((addr) => statusOfPeer(addr, ttid)));
  const sources: Source[] = [];
  for (const one of asked) {
    if (one.status === 'rejected') problems.push(errorText(one.reason));
    else if (one.value.flushLsn > 0) sources.push(one.value);
  }
  return sources;
}

export async function statusOfPeer(addr: string, ttid: TenantTimelineId): Promise<Source> {
  const client = createClient(SafekeeperServiceClient, addr);
  try {
    const { status } = await callUnary(
      client,
      client.getTimelineStatus,
      { ttid: { ...ttid } },
      { deadlineMs: STATUS_DEADLINE_MS },
    );
    if (status === undefined) throw new StorageError('unavailable', `${addr} answered without a status`);
    const control = controlFromStatus(status);
    const flushLsn = lsnFromWire(status.flushLsn);
    return { addr, status, control, flushLsn, lastLogTerm: lastLogTerm(control.history, flushLsn) };
  } finally {
    client.close();
  }
}

async function pullFromPeer(
  deps: PullDeps,
  request: PullRequest,
  source: Source,
  all: readonly Source[],
): Promise<Pulled> {
  const { ttid } = request;
  const { control, flushLsn, addr } = source;
  const needed = lsnMin(lsnMin(control.remoteConsistentLsn, control.backupLsn), control.commitLsn);
  const from = lsnMax(control.timelineStartLsn, segmentStart(needed, control.segSize));
  const timeline = await deps.timelines.install(control, async (storage) => {
    await storage.start(from, control.systemId);
    await copyWal({ ttid, addr, term: control.term, from, to: flushLsn }, storage);
    const after = await statusOfPeer(addr, ttid);
    if (after.control.term !== control.term) {
      throw new StorageError('unavailable', `${addr} went to term ${after.control.term} while it was read`);
    }
    const term = Math.max(...all.map((one) => one.control.term));
    const membership = request.membership ?? control.membership;
    checkMember(deps.nodeId, membership);
    return { ...control, membership, term, localStartLsn: from };
  });
  timeline.log.info({ source: addr, flushLsn: formatLsn(flushLsn) }, 'pulled timeline from another safekeeper');
  return { timeline, source: addr };
}

/** One that was excluded must not come back by itself. */
function checkMember(nodeId: number, membership: Membership): void {
  if (membership.generation === 0 || isMember(membership, nodeId)) return;
  throw new StorageError(
    'precondition',
    `safekeeper ${nodeId} is no member of configuration ${membership.generation} of this timeline`,
  );
}

async function copyWal(
  range: { ttid: TenantTimelineId; addr: string; term: number; from: Lsn; to: Lsn },
  storage: WalStorage,
): Promise<void> {
  for await (const { at, bytes } of streamWal(range)) await storage.write(at, [bytes]);
  await storage.sync();
}

/** WAL of one term of another safekeeper; throws when that term is over or the WAL does not come whole. */
export async function* streamWal(range: {
  ttid: TenantTimelineId;
  addr: string;
  term: number;
  from: Lsn;
  to: Lsn;
}): AsyncGenerator<{ at: Lsn; bytes: Buffer }> {
  const client = createClient(WalServiceClient, range.addr);
  const stream = client.streamWal();
  const bounds = { startLsn: lsnToWire(range.from), endLsn: lsnToWire(range.to), term: BigInt(range.term) };
  stream.write({
    message: { $case: 'start', value: { ttid: { ...range.ttid }, ...bounds, clientName: 'safekeeper' } },
  });
  let position = range.from;
  try {
    for await (const { startLsn, walData } of stream as AsyncIterable<StreamWalResponse>) {
      if (walData.length === 0) continue;
      if (lsnFromWire(startLsn) !== position || position + walData.length > range.to) {
        throw new StorageError('corrupt', `${range.addr} sent WAL of another position than ${formatLsn(position)}`);
      }
      yield { at: position, bytes: walData };
      position = lsn(position + walData.length);
    }
  } catch (error) {
    const cause = fromGrpcError(error);
    // The term moved on: what the caller does anyway is ask again.
    throw cause.kind === 'precondition' ? new StorageError('unavailable', cause.message, { cause }) : cause;
  } finally {
    stream.cancel();
    client.close();
  }
  if (position !== range.to) {
    throw new StorageError('unavailable', `${range.addr} ended its WAL at ${formatLsn(position)}`);
  }
}

interface Stored {
  readonly nodeId: number;
  readonly control: ControlState;
  readonly partial: PartialObject;
}

async function pullFromStore(deps: PullDeps, request: PullRequest, problems: readonly string[]): Promise<Pulled> {
  const { objects } = deps;
  const name = formatTtid(request.ttid);
  const why = problems.length === 0 ? '' : ` (${problems.join('; ')})`;
  if (objects === null) throw new StorageError('not-found', `nobody has timeline ${name}${why}`);
  const stored = newestOf(await objects.controls(request.ttid));
  if (stored === null) throw new StorageError('not-found', `nobody has timeline ${name}, nor has ${objects.url}${why}`);
  const { nodeId, control, partial } = stored;
  const begin = segmentStart(partial.flushLsn, control.segSize);
  const timeline = await deps.timelines.install(control, async (storage) => {
    await storage.restore(
      segmentNumber(partial.flushLsn, control.segSize),
      await objects.getPartial(control, nodeId, partial),
    );
    const membership = request.membership ?? control.membership;
    checkMember(deps.nodeId, membership);
    const positions = { localStartLsn: lsnMax(begin, control.timelineStartLsn), commitLsn: partial.commitLsn };
    return { ...control, membership, ...positions, partials: [] };
  });
  timeline.log.info({ flushLsn: formatLsn(partial.flushLsn) }, 'restored timeline from the object store');
  return { timeline, source: objects.url };
}

/** The most advanced log of which the store has everything: whole segments, then a partial one that holds the commit position. */
function newestOf(controls: readonly { nodeId: number; control: ControlState }[]): Stored | null {
  let best: Stored | null = null;
  for (const { nodeId, control } of controls) {
    for (const partial of control.partials) {
      const begin = segmentStart(partial.flushLsn, control.segSize);
      const isWhole = partial.commitLsn >= begin && segmentOffset(partial.flushLsn, control.segSize) > 0;
      if (partial.status !== 'uploaded' || !isWhole) continue;
      if (best === null || compareLogs(logOf(partial), logOf(best.partial)) > 0) best = { nodeId, control, partial };
    }
  }
  return best;
}

function logOf({ term, flushLsn }: PartialObject): { lastLogTerm: number; flushLsn: Lsn } {
  return { lastLogTerm: term, flushLsn };
}
