/** The vocabulary of the acceptor: what it remembers, what it is told, and what it asks to be done. Data only. */
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Term, TermHistory } from '#shared/consensus/term-history.js';

export interface Member {
  readonly nodeId: number;
  readonly grpcAddr: string;
}

/** Who votes. Generation 0: membership is what the proposer was configured with. */
export interface Membership {
  readonly generation: number;
  readonly members: readonly Member[];
  /** Empty unless a change is under way. */
  readonly newMembers: readonly Member[];
}

/**
 * What survives a restart, kept in the control file. Term and history are written before anybody is told of them; the four
 * positions at the end are written lazily and may be older on disk than in memory, which is harmless: each only rises.
 */
export interface ControlState {
  readonly ttid: TenantTimelineId;
  readonly membership: Membership;
  readonly term: Term;
  readonly history: TermHistory;
  /** PG_VERSION_NUM; 0 = not known yet. */
  readonly pgVersion: number;
  /** 0 = not known yet. */
  readonly systemId: bigint;
  readonly segSize: number;
  readonly createdAtMs: number;
  /** First WAL byte of the timeline; 0 = no leader has been here yet and there is no WAL. */
  readonly timelineStartLsn: Lsn;
  /** First WAL byte that this safekeeper ever had. */
  readonly localStartLsn: Lsn;
  readonly commitLsn: Lsn;
  /** Whole segments below are in the object store. */
  readonly backupLsn: Lsn;
  /** No safekeeper needs WAL below from a proposer. */
  readonly peerHorizonLsn: Lsn;
  /** The page server has WAL below in the object store, as layers. */
  readonly remoteConsistentLsn: Lsn;
  /** This safekeeper's objects of unfinished segments; one is listed before it is made and until it is gone. */
  readonly partials: readonly PartialObject[];
  /** Not 0: all WAL of this safekeeper is in the object store and none on disk; it ends here. */
  readonly evictedLsn: Lsn;
}

/** An unfinished segment in the object store, as it was at one moment. */
export interface PartialObject {
  readonly status: 'uploading' | 'uploaded' | 'deleting';
  /** Term of the last history entry that the log reached. */
  readonly term: Term;
  /** The object holds its segment up to here. */
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
}

/** The part of WalStreamDecoder that finding record boundaries takes. */
export interface RecordDecoder {
  feed(bytes: Uint8Array): void;
  next(): boolean;
  readonly recordEndLsn: Lsn;
}

/** A connected proposer that leads, or led, a term here. */
export interface ProposerLink {
  /** Term of its last append or elected message. */
  readonly term: Term;
  /** It has appended and waits for the flush. */
  awaitsFlush: boolean;
}

/** Owned by `step`, which alone changes it. Everyone else may read. */
export interface AcceptorState {
  readonly nodeId: number;
  control: ControlState;
  /** What the control file holds. */
  persisted: ControlState;
  /** End of the bytes written, perhaps inside a record. */
  writeLsn: Lsn;
  /** End of the last whole record among them. */
  writeRecordLsn: Lsn;
  /** End of the bytes that are durable. */
  syncedLsn: Lsn;
  /** End of the last whole record that is durable: what is reported as flush_lsn. */
  flushLsn: Lsn;
  /** Highest commit position that the leader of this term told; may lie above flushLsn, and counts as far as flushLsn goes. */
  leaderCommitLsn: Lsn;
  /**
   * Follows records up to writeLsn. Null: what lies behind flushLsn on disk is unknown (after a start) or was refused (damaged
   * input); nothing may be appended until a leader's Elected has cut the log.
   */
  decoder: RecordDecoder | null;
  /** Segments below were removed from disk since the start. */
  removedLsn: Lsn;
  readonly makeDecoder: (at: Lsn, segSize: number) => RecordDecoder;
  /** By connection number. */
  readonly proposers: Map<number, ProposerLink>;
}

export interface GreetingInput {
  readonly kind: 'greeting';
  readonly connection: number;
  readonly ttid: TenantTimelineId;
  readonly membership: Membership;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segSize: number;
}
export interface VoteInput {
  readonly kind: 'vote';
  readonly connection: number;
  readonly generation: number;
  readonly term: Term;
}
export interface ElectedInput {
  readonly kind: 'elected';
  readonly connection: number;
  readonly generation: number;
  readonly term: Term;
  readonly startStreamingAt: Lsn;
  readonly history: TermHistory;
}
export interface AppendInput {
  readonly kind: 'append';
  readonly connection: number;
  readonly generation: number;
  readonly term: Term;
  readonly beginLsn: Lsn;
  /** 0 = not known. */
  readonly commitLsn: Lsn;
  readonly truncateLsn: Lsn;
  /** Owned by the acceptor from here on. Empty: only positions. */
  readonly bytes: Uint8Array;
}
/** No more input waits: make durable what was written, and answer. */
export interface FlushInput {
  readonly kind: 'flush';
}
/** Tell connected proposers the positions again (there is new page server feedback). */
export interface AnnounceInput {
  readonly kind: 'announce';
}
export interface DisconnectInput {
  readonly kind: 'disconnect';
  readonly connection: number;
}
/** What another safekeeper published. */
export interface PeerInfoInput {
  readonly kind: 'peer-info';
  readonly lastLogTerm: Term;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
}
/** What the page server said. */
export interface FeedbackInput {
  readonly kind: 'feedback';
  readonly remoteConsistentLsn: Lsn;
}
/** Write the control file if it is behind memory. */
export interface CheckpointInput {
  readonly kind: 'checkpoint';
}

/** Whole segments below are in the object store. */
export interface BackupInput {
  readonly kind: 'backup';
  readonly backupLsn: Lsn;
}
/** The list of partial objects as it is now. */
export interface PartialsInput {
  readonly kind: 'partials';
  readonly partials: readonly PartialObject[];
}
/** Remove WAL that nobody needs; a reader here is at `keepFrom`; whoever lags by more than the limit reads the object store. */
export interface RemoveWalInput {
  readonly kind: 'remove-wal';
  readonly keepFrom: Lsn;
  readonly lagBytesMax: number;
}
/** Leave WAL to the object store alone. */
export interface EvictInput {
  readonly kind: 'evict';
}
/** The WAL of an evicted timeline is on disk again, durably. */
export interface ResidentInput {
  readonly kind: 'resident';
}
/** The control plane moves the timeline to another configuration. */
export interface MembershipInput {
  readonly kind: 'membership';
  readonly membership: Membership;
}
/** No vote may be given here any more in this term or an earlier one. */
export interface BumpTermInput {
  readonly kind: 'bump-term';
  readonly term: Term;
}

/** Inputs of the control plane and of the upkeep of WAL. */
export type UpkeepInput =
  BackupInput | PartialsInput | RemoveWalInput | EvictInput | ResidentInput | MembershipInput | BumpTermInput;

/** Messages that come from a proposer's connection. */
export type ProposerInput = GreetingInput | VoteInput | ElectedInput | AppendInput;
export type AcceptorInput =
  | ProposerInput
  | FlushInput
  | AnnounceInput
  | DisconnectInput
  | PeerInfoInput
  | FeedbackInput
  | CheckpointInput
  | UpkeepInput;

export type AcceptorReply =
  | { readonly kind: 'greeting'; readonly nodeId: number; readonly membership: Membership; readonly term: Term }
  | {
      readonly kind: 'vote';
      readonly generation: number;
      readonly term: Term;
      readonly voteGiven: boolean;
      readonly flushLsn: Lsn;
      readonly truncateLsn: Lsn;
      readonly history: TermHistory;
    }
  | {
      readonly kind: 'append';
      readonly generation: number;
      readonly term: Term;
      readonly flushLsn: Lsn;
      readonly commitLsn: Lsn;
    };

/**
 * To be done in the order given, each only after the one before has succeeded; all before the next input, but that the writes of
 * successive inputs may be joined into one. When one fails, the rest is dropped and the acceptor is built anew from disk.
 */
export type AcceptorEffect =
  /** Replace the control file, durably. */
  | { readonly kind: 'persist'; readonly control: ControlState }
  /** Begin a log at `at`, durably: the segment around it, with valid page headers before. Drops any log that is there. */
  | { readonly kind: 'start-wal'; readonly at: Lsn; readonly systemId: bigint }
  /** Drop all WAL from `to` on, durably, leaving zeros; writing goes on at `to`. */
  | { readonly kind: 'truncate-wal'; readonly to: Lsn }
  /** Write; need not be durable. */
  | { readonly kind: 'write-wal'; readonly at: Lsn; readonly bytes: Uint8Array }
  /** Make all that was written durable. */
  | { readonly kind: 'flush-wal' }
  /** Remove segments below, the oldest first; MAX_LSN = all. */
  | { readonly kind: 'remove-wal'; readonly below: Lsn }
  | { readonly kind: 'reply'; readonly connection: number; readonly reply: AcceptorReply };
