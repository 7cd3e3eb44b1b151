/** neon.safekeeper.v1.ConsensusService: one stream is one proposer's connection. */
import { StorageError } from '#shared/core/errors.js';
import { INVALID_LSN } from '#shared/core/lsn.js';
import { bidi, type CallContext, type ResponseWriter } from '#shared/rpc/handlers.js';
import type {
  ConsensusServiceServer,
  ProposeRequest,
  ProposeResponse,
  ProposerGreeting,
} from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { AcceptorReply } from '../core/acceptor-types.js';
import { newControlState } from '../core/control-state.js';
import type { Refill } from '../io/refill.js';
import type { Timeline } from '../io/timeline.js';
import type { Timelines } from '../io/timelines.js';
import { greetingFromWire, proposerInputFromWire, replyToWire } from './conversion.js';

/** Far more than a proposer that follows the protocol can have outstanding. */
const REPLIES_COUNT_MAX = 64;

export interface ConsensusDeps {
  readonly timelines: Timelines;
  readonly refill: Refill;
  /** Aborted when the service stops. */
  readonly stopping: AbortSignal;
}

export function consensusService(deps: ConsensusDeps): ConsensusServiceServer {
  return {
    propose: bidi((requests: AsyncIterable<ProposeRequest>, writer: ResponseWriter<ProposeResponse>, call) =>
      propose(deps, requests, writer, call),
    ),
  };
}

/** Ends when the proposer ends the stream or goes away; throws when a message was refused or the timeline stopped. */
async function propose(
  deps: ConsensusDeps,
  requests: AsyncIterable<ProposeRequest>,
  writer: ResponseWriter<ProposeResponse>,
  call: CallContext,
): Promise<void> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) return;
  if (first.value.message?.$case !== 'greeting') {
    throw new StorageError('precondition', 'the first message of a proposer is its greeting');
  }
  const timeline = await timelineFor(deps, first.value.message.value);
  await timeline.ensureResident();
  const replies = new ReplyQueue();
  const signal = AbortSignal.any([call.signal, deps.stopping]);
  const ended = new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
    replies.onFailure = reject;
  });
  const connection = timeline.connect({
    reply: (reply) => replies.put(reply),
    fail: (error) => replies.fail(error),
  });
  timeline.log.info({ peer: call.peer, connection: connection.id }, 'proposer connected');
  const read = async (): Promise<void> => {
    for (let next: IteratorResult<ProposeRequest, unknown> = first; next.done !== true; next = await iterator.next()) {
      await connection.submit(proposerInputFromWire(next.value, connection.id));
    }
  };
  try {
    await Promise.race([read(), replies.writeTo(writer, timeline), ended]);
  } finally {
    connection.close();
    replies.close();
    timeline.log.info({ peer: call.peer, connection: connection.id }, 'proposer left');
  }
}

async function timelineFor({ timelines, refill }: ConsensusDeps, greeting: ProposerGreeting): Promise<Timeline> {
  const { ttid, pgVersion, systemId, segSize, membership } = greetingFromWire(greeting, 0);
  if (!greeting.allowTimelineCreation || timelines.find(ttid) !== undefined) return timelines.get(ttid);
  if (membership.generation === 0) await refill.check(ttid);
  const startLsn = INVALID_LSN;
  return timelines.create(
    newControlState({ ttid, startLsn, pgVersion, systemId, segSize, membership, nowMs: Date.now() }),
  );
}

/**
 * Answers on their way out. Of several answers to appends only the newest matters, so a proposer that does not read cannot make the
 * queue grow: it holds one of them, and at most one answer for each greeting and vote that the proposer sent.
 */
class ReplyQueue {
  onFailure: (error: StorageError) => void = () => undefined;
  private readonly queue: AcceptorReply[] = [];
  private wake: (() => void) | null = null;
  private closed = false;

  put(reply: AcceptorReply): void {
    if (reply.kind === 'append' && this.queue.at(-1)?.kind === 'append') this.queue.pop();
    if (this.queue.length >= REPLIES_COUNT_MAX) {
      this.fail(new StorageError('exhausted', 'the proposer does not read its answers'));
      return;
    }
    this.queue.push(reply);
    this.wake?.();
  }

  fail(error: StorageError): void {
    this.onFailure(error);
  }

  close(): void {
    this.closed = true;
    this.wake?.();
  }

  async writeTo(writer: ResponseWriter<ProposeResponse>, timeline: Timeline): Promise<void> {
    while (!this.closed) {
      const reply = this.queue.shift();
      if (reply !== undefined) {
        await writer.write(
          replyToWire(reply, {
            pageserver: timeline.feedback.merged,
            standbys: timeline.standbys.feedback(Date.now() * 1000),
          }),
        );
        continue;
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      this.wake = null;
    }
  }
}
