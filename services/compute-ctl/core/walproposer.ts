/**
 * The walproposer: wins an election among the safekeepers, brings a quorum to the position where its term starts, then replicates the
 * WAL of its own Postgres. A pure state machine: inputs come with the time, effects are data, and whoever runs it performs them in order.
 *
 *   collecting ──quorum of greetings──► campaign ──quorum of votes──► recovering ──quorum has WAL up to startLsn──► leading
 *        ▲                                 │  ▲                            │
 *        └── refused: a higher term ───────┘  └── the donor is gone ───────┘          any ──higher term──► fenced
 *
 * Owns: the term, its history, what each safekeeper acknowledged, commit and truncate positions. Does not hold WAL: it asks for a piece
 * (`read-wal`) and is given it (`wal-read`), one piece a safekeeper at a time, so that a slow safekeeper costs neither memory nor others' time.
 *
 * Invariants:
 * - one term per life as leader: after `recovered` the term never changes; a higher term anywhere ends this proposer (`fenced`);
 * - `commitLsn` is a quorum's flush position, never falls, and never lies below the start of the term (an acknowledgement of older WAL
 *   does not commit it);
 * - `truncateLsn` never passes `commitLsn` nor what any configured safekeeper (any member, once members are named) has.
 */
import { formatTermHistory, streamingStart } from '#shared/consensus/term-history.js';
import type { TermHistory } from '#shared/consensus/term-history.js';
import { assert, unreachable } from '#shared/core/assert.js';
import { errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN, lsnMax, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { hasQuorum, isMember, quorumLsn } from './membership.js';
import { followMembership } from './peer-set.js';
import type {
  AcceptorGreeting,
  AppendResponse,
  Membership,
  PageserverFeedback,
  ProposerMessage,
  StandbyFeedback,
  VoteResponse,
} from './messages.js';
import { chooseDonor, newPeer, oldestNeeded } from './peer.js';
import type { Peer, PeerIndex } from './peer.js';

export const APPEND_BYTES_MAX = 128 * 1024;
const NO_BYTES = new Uint8Array(0);

export interface ProposerConfig {
  readonly ttid: TenantTimelineId;
  readonly peerCount: number;
  /** host:port of each; members of a configuration are found among them by it until they have greeted. */
  readonly addrs?: readonly string[];
  readonly membership: Membership;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segSize: number;
  readonly allowTimelineCreation: boolean;
  /** How long a quorum of greetings waits for the others: a term above theirs spares a second campaign. */
  readonly greetingGraceMs: number;
  /** Silence after which a connection is given up. */
  readonly peerTimeoutMs: number;
  /** How often a silent connection is told commit and truncate positions. */
  readonly heartbeatMs: number;
  /** How long recovery waits for the one safekeeper that has the WAL before it elects anew. */
  readonly donorTimeoutMs: number;
  /** Wait before a refused campaign is repeated; different computes need different ones. */
  readonly campaignRetryMs: number;
}

export type Input =
  | { readonly kind: 'connected'; readonly peer: PeerIndex }
  | { readonly kind: 'disconnected'; readonly peer: PeerIndex }
  | {
      readonly kind: 'message';
      readonly peer: PeerIndex;
      readonly message: AcceptorGreeting | VoteResponse | AppendResponse;
    }
  /** Answer to `read-wal`: at least one byte, at most what was asked. */
  | {
      readonly kind: 'wal-read';
      readonly peer: PeerIndex;
      readonly epoch: number;
      readonly beginLsn: Lsn;
      readonly bytes: Uint8Array;
    }
  /** Answer to `need-start-lsn`. */
  | { readonly kind: 'start-lsn'; readonly lsn: Lsn }
  /** WAL of this term up to `endLsn` can be read. */
  | { readonly kind: 'wal-available'; readonly endLsn: Lsn }
  /** The control plane says who votes: for a compute whose safekeepers all left meanwhile, and could tell it nothing. */
  | { readonly kind: 'membership'; readonly membership: Membership }
  | { readonly kind: 'tick' };

export type Effect =
  | { readonly kind: 'send'; readonly peer: PeerIndex; readonly message: ProposerMessage }
  | {
      readonly kind: 'read-wal';
      readonly peer: PeerIndex;
      readonly epoch: number;
      readonly fromLsn: Lsn;
      readonly endLsn: Lsn;
    }
  /** End the connection; `disconnected` must follow. */
  | { readonly kind: 'reset'; readonly peer: PeerIndex; readonly reason: string }
  /** A member of the present configuration that is not connected to so far; `peer` may be a new number. */
  | { readonly kind: 'connect'; readonly peer: PeerIndex; readonly addr: string }
  /** No member any more: end the connection and do not connect again. */
  | { readonly kind: 'drop'; readonly peer: PeerIndex }
  /** All voters are empty: somebody must say where this timeline's WAL begins. */
  | { readonly kind: 'need-start-lsn' }
  | { readonly kind: 'elected'; readonly term: number; readonly startLsn: Lsn; readonly donor: PeerIndex }
  /** A quorum has all WAL below `lsn`, and it is committed: Postgres may start there. */
  | { readonly kind: 'recovered'; readonly lsn: Lsn }
  | { readonly kind: 'committed'; readonly lsn: Lsn }
  | { readonly kind: 'feedback'; readonly feedback: PageserverFeedback }
  /** What the replicas of all safekeepers need; comes when it changes. */
  | { readonly kind: 'standby-feedback'; readonly feedback: StandbyFeedback }
  | { readonly kind: 'fenced'; readonly term: number; readonly message: string }
  | { readonly kind: 'note'; readonly level: 'info' | 'warn'; readonly text: string; readonly peer?: PeerIndex };

export type ProposerPhase = 'collecting' | 'campaign' | 'need-start' | 'recovering' | 'leading' | 'fenced';

export class WalProposer {
  readonly peers: Peer[];
  phase: ProposerPhase = 'collecting';
  term = 0;
  /** Ends with this term's own entry once elected; empty before. */
  history: TermHistory = [];
  startLsn: Lsn = INVALID_LSN;
  availableLsn: Lsn = INVALID_LSN;
  commitLsn: Lsn = INVALID_LSN;
  truncateLsn: Lsn = INVALID_LSN;
  membership: Membership;
  donor: PeerIndex = 0;
  private readonly config: ProposerConfig;
  private effects: Effect[] = [];
  private nowMs = 0;
  private quorumSinceMs = -1;
  private retryAtMs = -1;
  private donorLostMs = -1;
  private highestTermSeen = 0;
  private feedbackTimeUs = -1n;
  private standbyFeedback: StandbyFeedback | null = null;

  constructor(config: ProposerConfig) {
    assert(config.peerCount > 0, () => 'a walproposer needs at least one safekeeper');
    this.config = config;
    this.membership = config.membership;
    this.peers = Array.from({ length: config.peerCount }, (_, index) => newPeer(index, config.addrs?.[index] ?? ''));
  }

  /** Takes one input and returns what must be done, in order. `nowMs` never falls. */
  step(input: Input, nowMs: number): Effect[] {
    this.effects = [];
    if (this.phase === 'fenced') return this.effects;
    this.nowMs = nowMs;
    switch (input.kind) {
      case 'connected':
        this.onConnected(this.peer(input.peer));
        break;
      case 'disconnected':
        this.onDisconnected(this.peer(input.peer));
        break;
      case 'message':
        this.onMessage(this.peer(input.peer), input.message);
        break;
      case 'wal-read':
        this.onWalRead(this.peer(input.peer), input);
        break;
      case 'start-lsn':
        if (this.phase === 'need-start') this.lead(this.peer(this.donor), [], input.lsn);
        break;
      case 'wal-available':
        this.onWalAvailable(input.endLsn);
        break;
      case 'membership':
        this.learnMembership(null, input.membership);
        break;
      case 'tick':
        this.onTick();
        break;
      default:
        unreachable(input);
    }
    return this.effects;
  }

  /** Whether every connected safekeeper knows that all WAL below `lsn` is committed: then a shutdown leaves nothing undecided. */
  isSettled(lsn: Lsn): boolean {
    return this.commitLsn >= lsn && this.peers.every((peer) => peer.phase !== 'streaming' || peer.commitLsn >= lsn);
  }

  /** Where WAL of this term's history at `fromLsn` can be read, the most advanced safekeeper first. */
  donorsAt(fromLsn: Lsn): { index: PeerIndex; flushLsn: Lsn }[] {
    const donors: { index: PeerIndex; flushLsn: Lsn }[] = [];
    for (const peer of this.peers) {
      if (peer.phase !== 'streaming' && peer.phase !== 'voted') continue;
      const flushLsn = peer.index === this.donor ? lsnMax(peer.flushLsn, this.startLsn) : peer.flushLsn;
      if (flushLsn > fromLsn) donors.push({ index: peer.index, flushLsn: lsnMin(flushLsn, this.availableLsn) });
    }
    return donors.sort((a, b) => b.flushLsn - a.flushLsn);
  }

  /** Connected safekeepers that have this term's history durably up to `lsn`. */
  holdersOf(lsn: Lsn): PeerIndex[] {
    return this.peers.filter((peer) => peer.phase === 'streaming' && peer.flushLsn >= lsn).map((peer) => peer.index);
  }

  private peer(index: PeerIndex): Peer {
    const peer = this.peers[index];
    assert(peer !== undefined, () => `no safekeeper number ${index}`);
    return peer;
  }

  private send(peer: Peer, message: ProposerMessage): void {
    peer.lastSentMs = this.nowMs;
    this.effects.push({ kind: 'send', peer: peer.index, message });
  }

  private reset(peer: Peer, reason: string): void {
    this.effects.push({ kind: 'reset', peer: peer.index, reason });
  }

  private note(level: 'info' | 'warn', text: string, peer?: Peer): void {
    this.effects.push({ kind: 'note', level, text, ...(peer === undefined ? {} : { peer: peer.index }) });
  }

  private onConnected(peer: Peer): void {
    peer.phase = 'greeting';
    peer.readPending = false;
    peer.lastHeardMs = this.nowMs;
    const { ttid, pgVersion, systemId, segSize, allowTimelineCreation } = this.config;
    const membership = this.membership;
    this.send(peer, { kind: 'greeting', ttid, membership, pgVersion, systemId, segSize, allowTimelineCreation });
  }

  private onDisconnected(peer: Peer): void {
    peer.phase = 'offline';
    peer.tried = true;
    peer.readPending = false;
    peer.standbyFeedback = null;
    if (peer.index === this.donor && this.donorLostMs < 0) this.donorLostMs = this.nowMs;
    this.maybeCampaign();
  }

  private onMessage(peer: Peer, message: AcceptorGreeting | VoteResponse | AppendResponse): void {
    if (peer.gone) return;
    peer.lastHeardMs = this.nowMs;
    if (message.kind === 'greeting') this.onGreeting(peer, message);
    else if (message.kind === 'vote') this.onVote(peer, message);
    else this.onAppendResponse(peer, message);
  }

  private onGreeting(peer: Peer, greeting: AcceptorGreeting): void {
    if (peer.phase !== 'greeting') return this.reset(peer, 'unexpected greeting');
    const twin = this.peers.find((other) => other !== peer && !other.gone && other.nodeId === greeting.nodeId);
    if (twin !== undefined)
      return this.reset(peer, `safekeepers ${twin.index} and ${peer.index} are the same node ${greeting.nodeId}`);
    peer.nodeId = greeting.nodeId;
    this.learnMembership(peer, greeting.membership);
    if (!isMember(this.membership, greeting.nodeId)) return this.reset(peer, `node ${greeting.nodeId} is not a member`);
    peer.term = greeting.term;
    peer.tried = true;
    peer.phase = 'greeted';
    if (this.sawTerm(greeting.term)) return;
    if (this.phase === 'collecting') this.maybeCampaign();
    else this.askVote(peer);
  }

  /**
   * A newer configuration is followed at once, by a leader too: its term was won where the change began, and whoever changes the
   * configuration waits until no other term can be won, nor anything committed, without meeting this one (services/safekeeper/README.md).
   * Votes of an election that is not decided are void: they were given in the old one.
   */
  private learnMembership(from: Peer | null, membership: Membership): void {
    const own = this.membership;
    const isNewer = membership.generation > own.generation;
    // Who was configured with the number of the configuration alone learns its members.
    const isNamed = membership.generation === own.generation && own.members.length === 0;
    if (!isNewer && !(isNamed && membership.members.length > 0)) return;
    this.membership = membership;
    const { joined, left } = followMembership(this.peers, membership);
    for (const peer of left) this.effects.push({ kind: 'drop', peer: peer.index });
    for (const peer of joined) this.effects.push({ kind: 'connect', peer: peer.index, addr: peer.addr });
    if (!isNewer) return;
    this.note('info', `following membership generation ${membership.generation}`);
    for (const peer of this.peers) {
      // One that left and came back meanwhile has lost what it acknowledged: everybody says anew what it has.
      peer.flushLsn = INVALID_LSN;
      peer.vote = null;
      // The others were greeted with the old one; a second greeting tells them.
      if (peer !== from && !peer.gone && peer.phase !== 'offline') this.reset(peer, 'membership changed');
    }
    if (this.phase === 'campaign' || this.phase === 'need-start') this.retryCampaign('membership changed');
  }

  private hasQuorum(agrees: (peer: Peer) => boolean): boolean {
    return hasQuorum(this.membership, this.peers, agrees);
  }

  private maybeCampaign(): void {
    if (this.phase !== 'collecting' || this.nowMs < this.retryAtMs) return;
    if (!this.hasQuorum((peer) => peer.phase === 'greeted')) {
      this.quorumSinceMs = -1;
      return;
    }
    if (this.quorumSinceMs < 0) this.quorumSinceMs = this.nowMs;
    const waited = this.nowMs - this.quorumSinceMs >= this.config.greetingGraceMs;
    if (waited || this.peers.every((peer) => peer.tried || peer.gone)) this.campaign();
  }

  private campaign(): void {
    this.phase = 'campaign';
    this.term = this.highestTermSeen + 1;
    this.highestTermSeen = this.term;
    this.note('info', `asking for votes in term ${this.term}`);
    for (const peer of this.peers) {
      peer.vote = null;
      peer.flushLsn = INVALID_LSN;
      if (peer.phase === 'greeted') this.askVote(peer);
    }
  }

  private askVote(peer: Peer): void {
    peer.phase = 'voting';
    this.send(peer, { kind: 'vote', generation: this.membership.generation, term: this.term });
  }

  private onVote(peer: Peer, vote: VoteResponse): void {
    if (peer.phase !== 'voting') return this.reset(peer, 'unexpected vote');
    if (vote.term < this.term) return; // answers a campaign that was given up meanwhile
    if (this.sawTerm(vote.term)) return;
    if (vote.generation !== this.membership.generation)
      return this.reset(peer, `vote of generation ${vote.generation}`);
    if (this.phase === 'recovering' || this.phase === 'leading') return this.join(peer, vote);
    // Our own earlier vote request may be the reason why it refuses; only if its answer was lost, somebody else may have the vote.
    if (!vote.voteGiven && peer.vote === null) return this.retryCampaign(`safekeeper refused term ${this.term}`);
    peer.vote = vote;
    peer.phase = 'voted';
    if (this.phase === 'campaign' && this.hasQuorum((voter) => voter.vote !== null)) this.win();
  }

  /**
   * Notes a term that some safekeeper has. True when it ends what was being done: a leader is fenced; a candidate tries again with a
   * higher term, for an election that it did not win yet gives nobody a reason to stop.
   */
  private sawTerm(term: number): boolean {
    if (term > this.highestTermSeen) this.highestTermSeen = term;
    if (this.phase === 'collecting' || term <= this.term) return false;
    if (this.phase === 'recovering' || this.phase === 'leading') {
      this.fence(
        term,
        `fenced: a newer compute (term ${term}) took over the timeline from this one (term ${this.term})`,
      );
    } else {
      this.retryCampaign(`a safekeeper is at term ${term} already`);
    }
    return true;
  }

  private fence(term: number, message: string): void {
    this.phase = 'fenced';
    this.effects.push({ kind: 'fenced', term, message });
  }

  private retryCampaign(reason: string): void {
    this.note('warn', `${reason}: repeating the election with a higher term`);
    this.phase = 'collecting';
    this.quorumSinceMs = -1;
    this.retryAtMs = this.nowMs + this.config.campaignRetryMs;
    for (const peer of this.peers) if (peer.phase !== 'offline' && peer.phase !== 'greeting') peer.phase = 'greeted';
    this.maybeCampaign();
  }

  private win(): void {
    const best = chooseDonor(this.peers);
    assert(best !== null, () => 'a quorum voted, so there is a donor');
    this.donor = best.peer.index;
    this.truncateLsn = this.peers.reduce(
      (lsn, peer) => lsnMax(lsn, peer.vote?.truncateLsn ?? INVALID_LSN),
      INVALID_LSN,
    );
    if (best.vote.flushLsn === INVALID_LSN) {
      this.phase = 'need-start';
      this.effects.push({ kind: 'need-start-lsn' });
    } else {
      this.lead(best.peer, best.vote.termHistory, best.vote.flushLsn);
    }
  }

  /** The election is decided: this term starts at `startLsn`, behind the donor's log. */
  private lead(donor: Peer, donorHistory: TermHistory, startLsn: Lsn): void {
    this.phase = 'recovering';
    this.startLsn = startLsn;
    this.availableLsn = startLsn;
    this.donorLostMs = donor.phase === 'offline' ? this.nowMs : -1;
    this.history = [...donorHistory, { term: this.term, lsn: startLsn }];
    this.note(
      'info',
      `elected in term ${this.term} at ${formatLsn(startLsn)}, history ${formatTermHistory(this.history.slice(-5))}`,
    );
    this.effects.push({ kind: 'elected', term: this.term, startLsn, donor: donor.index });
    for (const peer of this.peers) if (peer.phase === 'voted' && peer.vote !== null) this.join(peer, peer.vote);
  }

  private join(peer: Peer, vote: VoteResponse): void {
    let startStreamingAt: Lsn;
    try {
      startStreamingAt = streamingStart(this.history, vote.termHistory, vote.flushLsn);
    } catch (error) {
      return this.reset(peer, errorText(error));
    }
    if (vote.flushLsn < peer.flushLsn) {
      this.note('warn', `lost WAL: had ${formatLsn(peer.flushLsn)}, now has ${formatLsn(vote.flushLsn)}`, peer);
      peer.flushLsn = vote.flushLsn;
    }
    if (peer.index === this.donor) this.donorLostMs = -1;
    peer.vote = vote;
    peer.phase = 'streaming';
    peer.nextLsn = startStreamingAt;
    peer.toldCommitLsn = INVALID_LSN;
    peer.epoch += 1;
    peer.readPending = false;
    const { generation } = this.membership;
    this.send(peer, { kind: 'elected', generation, term: this.term, startStreamingAt, termHistory: this.history });
    this.note('info', `streaming from ${formatLsn(startStreamingAt)} (it had ${formatLsn(vote.flushLsn)})`, peer);
    // The first append goes out even when it is empty: its answer tells what is durable.
    if (!this.requestWal(peer)) this.append(peer, peer.nextLsn, NO_BYTES);
  }

  /** Asks for the next piece of WAL for a safekeeper; false when there is none. */
  private requestWal(peer: Peer): boolean {
    if (peer.readPending) return true;
    if (peer.nextLsn >= this.availableLsn) return false;
    peer.readPending = true;
    const endLsn = lsnMin(this.availableLsn, (peer.nextLsn + APPEND_BYTES_MAX) as Lsn);
    this.effects.push({ kind: 'read-wal', peer: peer.index, epoch: peer.epoch, fromLsn: peer.nextLsn, endLsn });
    return true;
  }

  private append(peer: Peer, beginLsn: Lsn, walData: Uint8Array): void {
    const { term, commitLsn, truncateLsn } = this;
    const { generation } = this.membership;
    peer.toldCommitLsn = commitLsn;
    this.send(peer, { kind: 'append', generation, term, beginLsn, commitLsn, truncateLsn, walData });
  }

  private onWalRead(peer: Peer, read: { epoch: number; beginLsn: Lsn; bytes: Uint8Array }): void {
    if (read.epoch !== peer.epoch || peer.phase !== 'streaming') return;
    assert(
      peer.readPending && read.beginLsn === peer.nextLsn,
      () => `WAL of ${read.beginLsn} was given, ${peer.nextLsn} was asked`,
    );
    const endLsn = (read.beginLsn + read.bytes.length) as Lsn;
    assert(
      read.bytes.length > 0 && endLsn <= this.availableLsn,
      () => `WAL up to ${endLsn} was given, ${this.availableLsn} exists`,
    );
    peer.readPending = false;
    peer.nextLsn = endLsn;
    this.append(peer, read.beginLsn, read.bytes);
    this.requestWal(peer);
  }

  private onWalAvailable(endLsn: Lsn): void {
    assert(this.phase === 'leading', () => `WAL to replicate while ${this.phase}`);
    if (endLsn <= this.availableLsn) return;
    const waiting = this.peers.some((peer) => peer.flushLsn > this.availableLsn);
    this.availableLsn = endLsn;
    for (const peer of this.peers) if (peer.phase === 'streaming') this.requestWal(peer);
    if (waiting) this.advanceCommit();
  }

  private onAppendResponse(peer: Peer, response: AppendResponse): void {
    if (this.sawTerm(response.term)) return;
    if (peer.phase !== 'streaming') return; // answers an append of a term that was given up meanwhile
    if (response.generation !== this.membership.generation)
      return this.reset(peer, `answer of generation ${response.generation}`);
    if (response.term !== this.term) return;
    peer.flushLsn = lsnMax(peer.flushLsn, response.flushLsn);
    peer.commitLsn = lsnMax(peer.commitLsn, response.commitLsn);
    const feedback = response.pageserverFeedback;
    if (feedback !== null && feedback.replyTimeUs > this.feedbackTimeUs) {
      this.feedbackTimeUs = feedback.replyTimeUs;
      this.effects.push({ kind: 'feedback', feedback });
    }
    peer.standbyFeedback = response.standbyFeedback;
    this.mergeStandbys();
    this.advanceCommit();
  }

  private mergeStandbys(): void {
    const merged = oldestNeeded(this.peers);
    if (merged === null) return;
    const before = this.standbyFeedback;
    if (before?.xmin === merged.xmin && before.catalogXmin === merged.catalogXmin) return;
    this.standbyFeedback = merged;
    this.effects.push({ kind: 'standby-feedback', feedback: merged });
  }

  private advanceCommit(): void {
    // A safekeeper answers the segment's end after an XLOG_SWITCH, before the padding was sent: nothing beyond what exists can commit.
    const flushed = (peer: Peer): Lsn => lsnMin(peer.flushLsn, this.availableLsn);
    const reached = quorumLsn(this.membership, this.peers, (peer) =>
      flushed(peer) < this.startLsn ? INVALID_LSN : flushed(peer),
    );
    this.truncateLsn = lsnMax(this.truncateLsn, lsnMin(this.commitLsn, this.lowestFlush()));
    if (reached <= this.commitLsn) return;
    this.commitLsn = reached;
    this.truncateLsn = lsnMax(this.truncateLsn, lsnMin(reached, this.lowestFlush()));
    const hadToRecover = this.phase === 'recovering';
    if (hadToRecover) {
      this.phase = 'leading';
      this.effects.push({ kind: 'recovered', lsn: this.startLsn });
    }
    this.effects.push({ kind: 'committed', lsn: reached });
    // Under load the next WAL carries the news; a message of its own for each commit would double what all have to do.
    if (hadToRecover) this.tellCommit();
  }

  /** Some safekeeper does not know how far WAL is committed: a tick soon, or the next WAL, will tell it. */
  get owesCommit(): boolean {
    return this.peers.some((peer) => this.isOwed(peer));
  }

  private isOwed(peer: Peer): boolean {
    return peer.phase === 'streaming' && !peer.readPending && peer.toldCommitLsn < this.commitLsn;
  }

  private tellCommit(): void {
    for (const peer of this.peers) if (this.isOwed(peer)) this.append(peer, peer.nextLsn, NO_BYTES);
  }

  private lowestFlush(): Lsn {
    return this.peers.reduce<Lsn>(
      (lowest, peer) => (peer.gone ? lowest : lsnMin(lowest, peer.flushLsn)),
      this.availableLsn,
    );
  }

  private onTick(): void {
    this.tellCommit();
    for (const peer of this.peers) {
      if (peer.phase !== 'offline' && peer.phase !== 'greeted' && peer.phase !== 'voted') this.checkSilence(peer);
    }
    if (this.phase === 'collecting') this.maybeCampaign();
    const lost =
      this.phase === 'recovering' &&
      this.donorLostMs >= 0 &&
      this.nowMs - this.donorLostMs >= this.config.donorTimeoutMs;
    if (lost && this.peer(this.donor).phase === 'offline')
      this.retryCampaign('the safekeeper with the newest WAL is gone');
  }

  private checkSilence(peer: Peer): void {
    if (this.nowMs - peer.lastHeardMs >= this.config.peerTimeoutMs) {
      this.reset(peer, `silent for ${this.nowMs - peer.lastHeardMs} ms`);
    } else if (
      peer.phase === 'streaming' &&
      !peer.readPending &&
      this.nowMs - peer.lastSentMs >= this.config.heartbeatMs
    ) {
      this.append(peer, peer.nextLsn, NO_BYTES);
    }
  }
}
