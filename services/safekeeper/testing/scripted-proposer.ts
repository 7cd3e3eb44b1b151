/**
 * For tests: a proposer that does what the test says, over real gRPC, to one safekeeper. Several of them with one term make a
 * proposer of a quorum; the arithmetic is done by `electLeader`.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { lsn, lsnFromWire, lsnMax, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import {
  compareLogs,
  lastLogTerm,
  streamingStart,
  termHistoryFromWire,
  termHistoryToWire,
  type TermHistory,
} from '#shared/consensus/term-history.js';
import { createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import {
  ConsensusServiceClient,
  type AcceptorGreeting,
  type AppendResponse,
  type ProposeRequest,
  type ProposeResponse,
  type VoteResponse,
} from '#gen/neon/safekeeper/v1/safekeeper.js';

type Request = NonNullable<ProposeRequest['message']>;

export const PG_VERSION = 150018;

export class ScriptedLink {
  lastAppend: AppendResponse | null = null;
  vote: VoteResponse | null = null;
  error: Error | null = null;
  private readonly client: ConsensusServiceClient;
  private readonly stream: ClientDuplexStream<ProposeRequest, ProposeResponse>;
  private readonly inbox: ProposeResponse[] = [];
  private wakes = new Set<() => void>();

  constructor(addr: string) {
    this.client = createClient(ConsensusServiceClient, addr);
    this.stream = this.client.propose();
    this.stream.on('data', (response: ProposeResponse) => {
      if (response.message?.$case === 'append') this.lastAppend = response.message.value;
      else this.inbox.push(response);
      this.wake();
    });
    this.stream.on('error', (error) => {
      this.error = fromGrpcError(error);
      this.wake();
    });
    this.stream.on('end', () => {
      this.error ??= new Error('the stream ended');
      this.wake();
    });
  }

  send(message: Request): void {
    this.stream.write({ message });
  }

  /** Waits for the first non-append answer. Throws what ended the stream. */
  async receive(): Promise<NonNullable<ProposeResponse['message']>> {
    await this.until(() => this.inbox.length > 0);
    const message = this.inbox.shift()?.message;
    if (message === undefined) throw new Error('empty answer');
    return message;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.error !== null) throw this.error;
      await new Promise<void>((resolve) => this.wakes.add(resolve));
    }
  }

  async failure(): Promise<Error> {
    while (this.error === null) await new Promise<void>((resolve) => this.wakes.add(resolve));
    return this.error;
  }

  async greet(options: {
    ttid: TenantTimelineId;
    systemId: bigint;
    segSize: number;
    create?: boolean;
    pgVersion?: number;
    generation?: number;
  }): Promise<AcceptorGreeting> {
    const value = {
      ttid: options.ttid,
      mconf: { generation: options.generation ?? 0, members: [], newMembers: [] },
      pgVersion: options.pgVersion ?? PG_VERSION,
      systemId: options.systemId,
      walSegSize: options.segSize,
      allowTimelineCreation: options.create ?? false,
    };
    this.send({ $case: 'greeting', value });
    const answer = await this.receive();
    if (answer.$case !== 'greeting') throw new Error(`got ${answer.$case} for a greeting`);
    return answer.value;
  }

  async requestVote(term: number): Promise<VoteResponse> {
    this.send({ $case: 'vote', value: { generation: 0, term: BigInt(term) } });
    const answer = await this.receive();
    if (answer.$case !== 'vote') throw new Error(`got ${answer.$case} for a vote request`);
    this.vote = answer.value;
    return answer.value;
  }

  /** Returns where streaming begins. */
  elect(term: number, history: TermHistory, startAt?: Lsn): Lsn {
    const vote = this.vote;
    if (vote === null) throw new Error('no vote was asked for');
    const own = termHistoryFromWire(vote.termHistory);
    const start = startAt ?? streamingStart(history, own, lsnFromWire(vote.flushLsn));
    const value = {
      generation: 0,
      term: BigInt(term),
      startStreamingAt: lsnToWire(start),
      termHistory: termHistoryToWire(history),
    };
    this.send({ $case: 'elected', value });
    return start;
  }

  append(term: number, beginLsn: Lsn, bytes: Uint8Array, commitLsn: Lsn = lsn(0), truncateLsn: Lsn = lsn(0)): void {
    const value = {
      generation: 0,
      term: BigInt(term),
      beginLsn: lsnToWire(beginLsn),
      commitLsn: lsnToWire(commitLsn),
      truncateLsn: lsnToWire(truncateLsn),
      walData: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    };
    this.send({ $case: 'append', value });
  }

  /** Splits into messages. */
  appendAll(term: number, beginLsn: Lsn, bytes: Uint8Array, chunkBytes = 128 * 1024): void {
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      this.append(term, lsn(beginLsn + at), bytes.subarray(at, at + chunkBytes));
    }
  }

  get flushLsn(): Lsn {
    return lsnFromWire(this.lastAppend?.flushLsn ?? 0n);
  }

  get commitLsn(): Lsn {
    return lsnFromWire(this.lastAppend?.commitLsn ?? 0n);
  }

  flushedTo(at: Lsn): Promise<void> {
    return this.until(() => this.flushLsn >= at);
  }

  close(): void {
    this.stream.cancel();
    this.client.close();
  }

  private wake(): void {
    const wakes = [...this.wakes];
    this.wakes.clear();
    for (const wake of wakes) wake();
  }
}

export interface Leader {
  readonly term: number;
  readonly startLsn: Lsn;
  readonly history: TermHistory;
}

/** Wins an election on connected, greeted links, all of which must vote. `freshStart`: where a log without WAL begins. */
export async function electLeader(links: readonly ScriptedLink[], term: number, freshStart: Lsn): Promise<Leader> {
  const votes = await Promise.all(links.map((link) => link.requestVote(term)));
  let best: { lastLogTerm: number; flushLsn: Lsn; history: TermHistory } | null = null;
  for (const vote of votes) {
    if (!vote.voteGiven) throw new Error(`no vote: the safekeeper is in term ${vote.term}`);
    const history = termHistoryFromWire(vote.termHistory);
    const flushLsn = lsnFromWire(vote.flushLsn);
    const log = { lastLogTerm: lastLogTerm(history, flushLsn), flushLsn, history };
    if (best === null || compareLogs(log, best) > 0) best = log;
  }
  const startLsn = best === null || best.flushLsn === 0 ? freshStart : lsnMax(best.flushLsn, lsn(0));
  return { term, startLsn, history: [...(best?.history ?? []), { term, lsn: startLsn }] };
}
