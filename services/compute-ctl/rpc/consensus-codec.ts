/** Domain messages of the consensus conversation to and from `neon.safekeeper.v1`. What arrives is checked here, once. */
import type * as wire from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { PageserverFeedback as WireFeedback } from '#gen/neon/common/v1/common.js';
import { termFromWire, termHistoryFromWire, termHistoryToWire } from '#shared/consensus/term-history.js';
import { StorageError } from '#shared/core/errors.js';
import { lsnFromWire, lsnToWire } from '#shared/core/lsn.js';
import type {
  AcceptorMessage,
  Membership,
  PageserverFeedback,
  ProposerMessage,
  StandbyFeedback,
} from '../core/messages.js';

const MEMBERS_MAX = 64;

export function membershipToWire(membership: Membership): wire.MembershipConfiguration {
  return {
    generation: membership.generation,
    members: [...membership.members],
    newMembers: [...membership.newMembers],
  };
}

function membershipFromWire(membership: wire.MembershipConfiguration | undefined): Membership {
  const { generation, members, newMembers } = membership ?? { generation: 0, members: [], newMembers: [] };
  if (members.length > MEMBERS_MAX || newMembers.length > MEMBERS_MAX) {
    throw new StorageError('invalid', `a membership of ${members.length + newMembers.length} safekeepers is too large`);
  }
  return { generation, members, newMembers };
}

/** A view, not a copy: the stream serialises a message before `write` returns to the caller that owns the bytes. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function bodyToWire(message: ProposerMessage): NonNullable<wire.ProposeRequest['message']> {
  switch (message.kind) {
    case 'greeting':
      return {
        $case: 'greeting',
        value: {
          ttid: { ...message.ttid },
          mconf: membershipToWire(message.membership),
          pgVersion: message.pgVersion,
          systemId: message.systemId,
          walSegSize: message.segSize,
          allowTimelineCreation: message.allowTimelineCreation,
        },
      };
    case 'vote':
      return { $case: 'vote', value: { generation: message.generation, term: BigInt(message.term) } };
    case 'elected':
      return {
        $case: 'elected',
        value: {
          generation: message.generation,
          term: BigInt(message.term),
          startStreamingAt: lsnToWire(message.startStreamingAt),
          termHistory: termHistoryToWire(message.termHistory),
        },
      };
    case 'append':
      return {
        $case: 'append',
        value: {
          generation: message.generation,
          term: BigInt(message.term),
          beginLsn: lsnToWire(message.beginLsn),
          commitLsn: lsnToWire(message.commitLsn),
          truncateLsn: lsnToWire(message.truncateLsn),
          walData: asBuffer(message.walData),
        },
      };
  }
}

export function proposerMessageToWire(message: ProposerMessage): wire.ProposeRequest {
  return { message: bodyToWire(message) };
}

function feedbackFromWire(feedback: WireFeedback | undefined): PageserverFeedback | null {
  if (feedback === undefined) return null;
  return {
    currentTimelineSizeBytes: feedback.currentTimelineSizeBytes,
    lastReceivedLsn: lsnFromWire(feedback.lastReceivedLsn),
    diskConsistentLsn: lsnFromWire(feedback.diskConsistentLsn),
    remoteConsistentLsn: lsnFromWire(feedback.remoteConsistentLsn),
    replyTimeUs: feedback.replyTimeUs,
  };
}

function standbyFeedbackFromWire(feedback: wire.HotStandbyFeedback | undefined): StandbyFeedback | null {
  return feedback === undefined ? null : { xmin: feedback.xmin, catalogXmin: feedback.catalogXmin };
}

/** Throws StorageError `invalid` on values out of range and on an empty message. */
export function acceptorMessageFromWire(response: wire.ProposeResponse): AcceptorMessage {
  const body = response.message;
  if (body === undefined) throw new StorageError('invalid', 'the safekeeper sent an empty message');
  switch (body.$case) {
    case 'greeting': {
      const { nodeId, mconf, term } = body.value;
      return { kind: 'greeting', nodeId, membership: membershipFromWire(mconf), term: termFromWire(term) };
    }
    case 'vote': {
      const vote = body.value;
      return {
        kind: 'vote',
        generation: vote.generation,
        term: termFromWire(vote.term),
        voteGiven: vote.voteGiven,
        flushLsn: lsnFromWire(vote.flushLsn),
        truncateLsn: lsnFromWire(vote.truncateLsn),
        termHistory: termHistoryFromWire(vote.termHistory),
      };
    }
    case 'append': {
      const append = body.value;
      return {
        kind: 'append',
        generation: append.generation,
        term: termFromWire(append.term),
        flushLsn: lsnFromWire(append.flushLsn),
        commitLsn: lsnFromWire(append.commitLsn),
        pageserverFeedback: feedbackFromWire(append.pageserverFeedback),
        standbyFeedback: standbyFeedbackFromWire(append.hotStandbyFeedback),
      };
    }
  }
}
