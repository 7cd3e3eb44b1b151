/** Messages to domain types and back; everything from outside is checked here, once. */
import { StorageError } from '#shared/core/errors.js';
import { parseTtid } from '#shared/core/ids.js';
import { INVALID_LSN, lsnFromWire, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { termFromWire, termHistoryFromWire, termHistoryToWire } from '#shared/consensus/term-history.js';
import { checkSegmentSize, DEFAULT_SEGMENT_BYTES, normalizeLsn } from '#shared/postgres/wal-layout.js';
import type { PageserverFeedback as WireFeedback } from '#gen/neon/common/v1/common.js';
import type {
  CreateTimelineRequest,
  MembershipConfiguration,
  ProposeRequest,
  ProposeResponse,
  ProposerGreeting,
  TimelineStatus,
} from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { AcceptorReply, ControlState, GreetingInput, Membership, ProposerInput } from '../core/acceptor-types.js';
import { checkShards, DEFAULT_STRIPE_BLOCKS } from '#shared/core/shard.js';
import type { PageserverFeedback } from '../core/feedback.js';
import type { HotStandbyFeedback } from '../core/standby-book.js';
import { newControlState } from '../core/control-state.js';
import { NO_MEMBERSHIP } from '../core/membership.js';
import type { Timeline } from '../io/timeline.js';

const MEMBERS_COUNT_MAX = 100;

/** Any unsigned number of a message. Throws `invalid` above 2^53. */
export function numberFromWire(value: bigint, what: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new StorageError('invalid', `${what} ${value} is out of range`);
  }
  return Number(value);
}

/** A position in a log; "latest" makes no sense here. */
export function positionFromWire(value: bigint): Lsn {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new StorageError('invalid', `LSN ${value} is out of range`);
  return lsnFromWire(value);
}

export function membershipFromWire(message: MembershipConfiguration | undefined): Membership {
  if (message === undefined) return NO_MEMBERSHIP;
  if (message.members.length > MEMBERS_COUNT_MAX || message.newMembers.length > MEMBERS_COUNT_MAX) {
    throw new StorageError('invalid', `a configuration has at most ${MEMBERS_COUNT_MAX} members`);
  }
  const member = (m: { nodeId: bigint; grpcAddr: string }) => ({
    nodeId: numberFromWire(m.nodeId, 'node id'),
    grpcAddr: m.grpcAddr,
  });
  return {
    generation: message.generation,
    members: message.members.map(member),
    newMembers: message.newMembers.map(member),
  };
}

export function membershipToWire(membership: Membership): MembershipConfiguration {
  const member = (m: { nodeId: number; grpcAddr: string }) => ({ nodeId: BigInt(m.nodeId), grpcAddr: m.grpcAddr });
  return {
    generation: membership.generation,
    members: membership.members.map(member),
    newMembers: membership.newMembers.map(member),
  };
}

export function greetingFromWire(message: ProposerGreeting, connection: number): GreetingInput {
  checkSegmentSize(message.walSegSize);
  return {
    kind: 'greeting',
    connection,
    ttid: parseTtid(message.ttid),
    membership: membershipFromWire(message.mconf),
    pgVersion: message.pgVersion,
    systemId: message.systemId,
    segSize: message.walSegSize,
  };
}

/** Takes over the bytes of an append without copying them. */
export function proposerInputFromWire(request: ProposeRequest, connection: number): ProposerInput {
  const { message } = request;
  switch (message?.$case) {
    case 'append': {
      const { value } = message;
      return {
        kind: 'append',
        connection,
        generation: value.generation,
        term: termFromWire(value.term),
        beginLsn: positionFromWire(value.beginLsn),
        commitLsn: positionFromWire(value.commitLsn),
        truncateLsn: positionFromWire(value.truncateLsn),
        bytes: value.walData,
      };
    }
    case 'vote':
      return {
        kind: 'vote',
        connection,
        generation: message.value.generation,
        term: termFromWire(message.value.term),
      };
    case 'elected':
      return {
        kind: 'elected',
        connection,
        generation: message.value.generation,
        term: termFromWire(message.value.term),
        startStreamingAt: positionFromWire(message.value.startStreamingAt),
        history: termHistoryFromWire(message.value.termHistory),
      };
    case 'greeting':
      return greetingFromWire(message.value, connection);
    default:
      throw new StorageError('invalid', 'the message is empty');
  }
}

/** What goes along with each answer to an append. */
export interface Announcements {
  readonly pageserver: PageserverFeedback | null;
  readonly standbys: HotStandbyFeedback | null;
}

export function replyToWire(reply: AcceptorReply, announcements: Announcements): ProposeResponse {
  switch (reply.kind) {
    case 'greeting': {
      const { nodeId, membership, term } = reply;
      const value = { nodeId: BigInt(nodeId), mconf: membershipToWire(membership), term: BigInt(term) };
      return { message: { $case: 'greeting', value } };
    }
    case 'vote': {
      const value = {
        generation: reply.generation,
        term: BigInt(reply.term),
        voteGiven: reply.voteGiven,
        flushLsn: lsnToWire(reply.flushLsn),
        truncateLsn: lsnToWire(reply.truncateLsn),
        termHistory: termHistoryToWire(reply.history),
      };
      return { message: { $case: 'vote', value } };
    }
    case 'append': {
      const { pageserver, standbys } = announcements;
      const value = {
        generation: reply.generation,
        term: BigInt(reply.term),
        flushLsn: lsnToWire(reply.flushLsn),
        commitLsn: lsnToWire(reply.commitLsn),
        pageserverFeedback: pageserver === null ? undefined : feedbackToWire(pageserver),
        hotStandbyFeedback: standbys === null ? undefined : { ...standbys, timeUs: BigInt(standbys.timeUs) },
      };
      return { message: { $case: 'append', value } };
    }
  }
}

export function feedbackFromWire(message: WireFeedback): PageserverFeedback {
  return {
    timelineSizeBytes: numberFromWire(message.currentTimelineSizeBytes, 'timeline size'),
    lastReceivedLsn: positionFromWire(message.lastReceivedLsn),
    diskConsistentLsn: positionFromWire(message.diskConsistentLsn),
    remoteConsistentLsn: positionFromWire(message.remoteConsistentLsn),
    replyTimeUs: Number(BigInt.asIntN(53, message.replyTimeUs)),
    ...shardFromWire(message),
  };
}

function feedbackToWire(feedback: PageserverFeedback): WireFeedback {
  return {
    currentTimelineSizeBytes: BigInt(feedback.timelineSizeBytes),
    lastReceivedLsn: lsnToWire(feedback.lastReceivedLsn),
    diskConsistentLsn: lsnToWire(feedback.diskConsistentLsn),
    remoteConsistentLsn: lsnToWire(feedback.remoteConsistentLsn),
    replyTimeUs: BigInt(feedback.replyTimeUs),
  };
}

function shardFromWire({ shardNumber = 0, shardCount = 0 }: WireFeedback): { shardNumber: number; shardCount: number } {
  checkShards(shardCount, DEFAULT_STRIPE_BLOCKS);
  if (shardNumber < Math.max(1, shardCount)) return { shardNumber, shardCount };
  throw new StorageError('invalid', `there is no shard ${shardNumber} of ${shardCount}`);
}

export function createRequestFromWire(request: CreateTimelineRequest, nowMs: number): ControlState {
  const segSize = request.walSegSize === 0 ? DEFAULT_SEGMENT_BYTES : request.walSegSize;
  checkSegmentSize(segSize);
  const startLsn = normalizeLsn(positionFromWire(request.startLsn), segSize);
  if (startLsn === INVALID_LSN) throw new StorageError('invalid', 'start_lsn is required');
  if (startLsn % 8 !== 0) throw new StorageError('invalid', 'start_lsn is no place where a WAL record may begin');
  return newControlState({
    ttid: parseTtid(request.ttid),
    startLsn,
    pgVersion: request.pgVersion,
    systemId: request.systemId,
    segSize,
    membership: membershipFromWire(request.mconf),
    nowMs,
  });
}

/** What another safekeeper says of a timeline, as a control file could hold it. */
export function controlFromStatus(status: TimelineStatus): ControlState {
  checkSegmentSize(status.walSegSize);
  const history = termHistoryFromWire(status.termHistory);
  return {
    ttid: parseTtid(status.ttid),
    membership: membershipFromWire(status.mconf),
    term: termFromWire(status.term),
    history,
    pgVersion: status.pgVersion,
    systemId: status.systemId,
    segSize: status.walSegSize,
    createdAtMs: Date.now(),
    timelineStartLsn: positionFromWire(status.timelineStartLsn),
    localStartLsn: positionFromWire(status.localStartLsn),
    commitLsn: positionFromWire(status.commitLsn),
    backupLsn: positionFromWire(status.backupLsn),
    peerHorizonLsn: positionFromWire(status.peerHorizonLsn),
    remoteConsistentLsn: positionFromWire(status.remoteConsistentLsn),
    partials: [],
    evictedLsn: INVALID_LSN,
  };
}

export function statusToWire(timeline: Timeline): TimelineStatus {
  const { view } = timeline;
  const { control } = view;
  return {
    ttid: control.ttid,
    term: BigInt(control.term),
    lastLogTerm: BigInt(view.lastLogTerm),
    termHistory: termHistoryToWire(control.history),
    timelineStartLsn: lsnToWire(control.timelineStartLsn),
    localStartLsn: lsnToWire(control.localStartLsn),
    writeLsn: lsnToWire(view.writeLsn),
    flushLsn: lsnToWire(view.flushLsn),
    commitLsn: lsnToWire(view.commitLsn),
    backupLsn: lsnToWire(control.backupLsn),
    remoteConsistentLsn: lsnToWire(control.remoteConsistentLsn),
    peerHorizonLsn: lsnToWire(control.peerHorizonLsn),
    pgVersion: control.pgVersion,
    systemId: control.systemId,
    walSegSize: control.segSize,
    mconf: membershipToWire(control.membership),
    proposerCount: timeline.proposerCount,
    readerCount: timeline.readerCount,
  };
}
