/**
 * What walproposer and safekeepers say to each other, as strict domain values. `rpc/consensus-codec.ts` turns them into the messages of
 * `neon.safekeeper.v1` and back; the meaning of each field stands in `proto/neon/safekeeper/v1/safekeeper.proto`.
 */
import type { Lsn } from '#shared/core/lsn.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { TermLsn } from '#shared/consensus/term-history.js';

export interface Member {
  readonly nodeId: bigint;
  readonly grpcAddr: string;
}

/** Generation 0: the members are the configured safekeepers, by number and not by id. */
export interface Membership {
  readonly generation: number;
  readonly members: readonly Member[];
  /** Not empty while a change is under way: both sets must agree. */
  readonly newMembers: readonly Member[];
}

export interface PageserverFeedback {
  readonly currentTimelineSizeBytes: bigint;
  readonly lastReceivedLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  /** Microseconds since the Unix epoch. */
  readonly replyTimeUs: bigint;
}

/** The oldest transactions that replicas still need, as full ids; 0 = none. */
export interface StandbyFeedback {
  readonly xmin: bigint;
  readonly catalogXmin: bigint;
}

export interface ProposerGreeting {
  readonly kind: 'greeting';
  readonly ttid: TenantTimelineId;
  readonly membership: Membership;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly allowTimelineCreation: boolean;
}

export interface VoteRequest {
  readonly kind: 'vote';
  readonly generation: number;
  readonly term: number;
}

export interface ProposerElected {
  readonly kind: 'elected';
  readonly generation: number;
  readonly term: number;
  readonly startStreamingAt: Lsn;
  readonly termHistory: readonly TermLsn[];
}

export interface AppendRequest {
  readonly kind: 'append';
  readonly generation: number;
  readonly term: number;
  readonly beginLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly truncateLsn: Lsn;
  /** Borrowed: whoever keeps it longer than the call copies it. */
  readonly walData: Uint8Array;
}

export type ProposerMessage = ProposerGreeting | VoteRequest | ProposerElected | AppendRequest;

export interface AcceptorGreeting {
  readonly kind: 'greeting';
  readonly nodeId: bigint;
  readonly membership: Membership;
  readonly term: number;
}

export interface VoteResponse {
  readonly kind: 'vote';
  readonly generation: number;
  readonly term: number;
  readonly voteGiven: boolean;
  readonly flushLsn: Lsn;
  readonly truncateLsn: Lsn;
  readonly termHistory: readonly TermLsn[];
}

export interface AppendResponse {
  readonly kind: 'append';
  readonly generation: number;
  readonly term: number;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly pageserverFeedback: PageserverFeedback | null;
  /** Of the replicas at this safekeeper; null when none of them ever asked for anything. */
  readonly standbyFeedback: StandbyFeedback | null;
}

export type AcceptorMessage = AcceptorGreeting | VoteResponse | AppendResponse;
