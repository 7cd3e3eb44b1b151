/** Carries out a membership change: what the machine of core/membership-change.ts wants done is done at the safekeepers. */
import { StorageError, errorKind, errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { lsnFromWire } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { MembershipConfiguration, TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { TimelineAdminServiceClient } from '#gen/neon/safekeeper/v1/timeline_admin.js';
import { MembershipChange, startChange } from '../core/membership-change.js';
import type { Action, Configuration, Member, MemberStatus } from '../core/membership-change.js';

const PAUSE_MS = 200;
const CALL_DEADLINE_MS = 5_000;
/** A pull copies all WAL that is not in the object store. */
const PULL_DEADLINE_MS = 600_000;

export interface ChangeRequest {
  readonly ttid: TenantTimelineId;
  /** Who votes now, as far as known; the safekeepers' own word counts more. */
  readonly members: readonly Member[];
  readonly newMembers: readonly Member[];
  /** One line for each thing done. */
  readonly say: (text: string) => void;
  readonly signal: AbortSignal;
}

/** Resolves with the final configuration. A member that is dead is no obstacle as long as a majority of each set lives. */
export async function changeMembers(request: ChangeRequest): Promise<Configuration> {
  const change = await beginOrResume(request);
  const { members } = change.configuration;
  request.say(`configuration ${change.configuration.generation}: ${names(members)} and ${names(request.newMembers)}`);
  const leaving = new Set<number>();
  while (change.phase !== 'done') {
    request.signal.throwIfAborted();
    const before = change.phase;
    const actions = change
      .actions()
      .filter((action) => !(action.kind === 'exclude' && leaving.has(action.member.nodeId)));
    await Promise.all(actions.map((action) => perform(request, change, action, leaving)));
    if (before === 'joint' && change.phase === 'final') {
      request.say(`configuration ${change.configuration.generation}: ${names(change.configuration.members)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  return change.configuration;
}

async function beginOrResume({ ttid, members, newMembers }: ChangeRequest): Promise<MembershipChange> {
  let newest: Configuration = { generation: 0, members, newMembers: [] };
  for (const member of [...members, ...newMembers]) {
    const status = await statusOf(member, ttid).catch(() => null);
    const found = status === null ? null : configurationOf(status.mconf);
    if (found !== null && found.generation > newest.generation) newest = found;
  }
  if (newest.newMembers.length === 0) return startChange(newest, newMembers);
  if (names(newest.newMembers) !== names(newMembers)) {
    throw new StorageError('precondition', `a change to ${names(newest.newMembers)} is under way; finish it first`);
  }
  return new MembershipChange(newest);
}

/** What fails is wanted again by the machine. One that left and is dead cannot be told so; nobody listens to it any more. */
async function perform(
  request: ChangeRequest,
  change: MembershipChange,
  action: Action,
  leaving: Set<number>,
): Promise<void> {
  const { member } = action;
  try {
    const status = await act(request, action);
    if (action.kind === 'exclude') change.reportExcluded(member.nodeId);
    else change.report(member.nodeId, status === null ? 'absent' : memberStatus(status));
    if (action.kind !== 'ask') request.say(`${action.kind} at safekeeper ${member.nodeId}: done`);
  } catch (error) {
    if (errorKind(error) === 'not-found') change.report(member.nodeId, 'absent');
    else if (action.kind === 'exclude') {
      request.say(`safekeeper ${member.nodeId} could not be told that it left: ${errorText(error)}`);
      leaving.add(member.nodeId);
      change.reportExcluded(member.nodeId);
    }
  }
}

async function act({ ttid }: ChangeRequest, action: Action): Promise<TimelineStatus | null> {
  const { member } = action;
  if (action.kind === 'ask') return statusOf(member, ttid);
  const client = createClient(TimelineAdminServiceClient, member.grpcAddr);
  const name = { ttid: { ...ttid } };
  const options = { deadlineMs: CALL_DEADLINE_MS };
  try {
    switch (action.kind) {
      case 'set-membership': {
        const wanted = { ...name, mconf: configurationToWire(action.configuration) };
        return (await callUnary(client, client.setMembership, wanted, options)).status ?? null;
      }
      case 'bump-term': {
        const wanted = { ...name, term: BigInt(action.term) };
        return (await callUnary(client, client.bumpTerm, wanted, options)).status ?? null;
      }
      case 'pull': {
        const sourceAddrs = action.from.map(({ grpcAddr }) => grpcAddr);
        const wanted = { ...name, sourceAddrs, mconf: configurationToWire(action.configuration) };
        const answer = await callUnary(client, client.pullTimeline, wanted, { deadlineMs: PULL_DEADLINE_MS });
        return answer.status ?? null;
      }
      case 'exclude':
        await callUnary(client, client.excludeTimeline, { ...name, generation: action.generation }, options);
        return null;
    }
  } finally {
    client.close();
  }
}

/** Null: the timeline is not there. */
export async function statusOf({ grpcAddr }: Member, ttid: TenantTimelineId): Promise<TimelineStatus | null> {
  const client = createClient(SafekeeperServiceClient, grpcAddr);
  try {
    const options = { deadlineMs: CALL_DEADLINE_MS };
    return (await callUnary(client, client.getTimelineStatus, { ttid: { ...ttid } }, options)).status ?? null;
  } catch (error) {
    if (errorKind(error) === 'not-found') return null;
    throw error;
  } finally {
    client.close();
  }
}

function memberStatus(status: TimelineStatus): MemberStatus {
  return {
    generation: status.mconf?.generation ?? 0,
    term: Number(status.term),
    lastLogTerm: Number(status.lastLogTerm),
    flushLsn: lsnFromWire(status.flushLsn),
  };
}

function configurationOf(mconf: MembershipConfiguration | undefined): Configuration | null {
  if (mconf === undefined || mconf.members.length === 0) return null;
  const members = (list: MembershipConfiguration['members']): Member[] =>
    list.map(({ nodeId, grpcAddr }) => ({ nodeId: Number(nodeId), grpcAddr }));
  return { generation: mconf.generation, members: members(mconf.members), newMembers: members(mconf.newMembers) };
}

function configurationToWire({ generation, members, newMembers }: Configuration): MembershipConfiguration {
  const convert = (list: readonly Member[]) =>
    list.map(({ nodeId, grpcAddr }) => ({ nodeId: BigInt(nodeId), grpcAddr }));
  return { generation, members: convert(members), newMembers: convert(newMembers) };
}

function names(members: readonly Member[]): string {
  return `[${members
    .map(({ nodeId }) => nodeId)
    .sort((a, b) => a - b)
    .join(' ')}]`;
}
