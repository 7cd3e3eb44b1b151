/** neon.broker.v1.BrokerService. Owns how queued messages get to subscribers: one at a time, at the subscriber's speed. */
import { StorageError } from '#shared/core/errors.js';
import { clientStream, serverStream, unary, type CallContext, type ResponseWriter } from '#shared/rpc/handlers.js';
import type { Logger } from '#shared/runtime/log.js';
import type {
  BrokerServiceServer,
  GetStatusRequest,
  GetStatusResponse,
  PublishOneRequest,
  PublishOneResponse,
  PublishSafekeeperInfoRequest,
  PublishSafekeeperInfoResponse,
  SubscribeByFilterRequest,
  SubscribeByFilterResponse,
  SubscribeSafekeeperInfoRequest,
  SubscribeSafekeeperInfoResponse,
  TypedMessage,
} from '#gen/neon/broker/v1/broker.js';
import type { Filter, MessageKind, Registry } from '../core/registry.js';
import { filterOf, routeOf, timelineOf } from './conversion.js';

export interface BrokerDeps {
  readonly registry: Registry<TypedMessage>;
  readonly log: Logger;
  /** Aborted when the service stops: ends open streams. */
  readonly stopping: AbortSignal;
}

const INFO_ONLY: ReadonlySet<MessageKind> = new Set(['info']);

export function brokerService(deps: BrokerDeps): BrokerServiceServer {
  const { registry } = deps;
  return {
    publishOne: unary(async ({ message }: PublishOneRequest): Promise<PublishOneResponse> => {
      return { subscriberCount: publish(registry, message) };
    }),
    publishSafekeeperInfo: clientStream(
      async (requests: AsyncIterable<PublishSafekeeperInfoRequest>): Promise<PublishSafekeeperInfoResponse> => {
        let accepted = 0n;
        for await (const { info } of requests) {
          if (info === undefined) throw new StorageError('invalid', 'the request has no info');
          publish(registry, { message: { $case: 'safekeeperTimelineInfo', value: info } });
          accepted += 1n;
        }
        return { acceptedCount: accepted };
      },
    ),
    subscribeByFilter: serverStream(
      (request: SubscribeByFilterRequest, writer: ResponseWriter<SubscribeByFilterResponse>, call) =>
        deliver(deps, filterOf(request), call, (message) => writer.write({ message })),
    ),
    subscribeSafekeeperInfo: serverStream(
      (request: SubscribeSafekeeperInfoRequest, writer: ResponseWriter<SubscribeSafekeeperInfoResponse>, call) => {
        const filter: Filter = { kinds: INFO_ONLY, timeline: timelineOf(request.ttid) };
        return deliver(deps, filter, call, async ({ message }) => {
          if (message?.$case === 'safekeeperTimelineInfo') await writer.write({ info: message.value });
        });
      },
    ),
    getStatus: unary(async (_request: GetStatusRequest): Promise<GetStatusResponse> => ({
      subscriberCount: registry.subscriberCount,
      publishedCount: BigInt(registry.publishedCount),
      deliveredCount: BigInt(registry.deliveredCount),
      droppedCount: BigInt(registry.droppedCount),
    })),
  };
}

function publish(registry: Registry<TypedMessage>, message: TypedMessage | undefined): number {
  const { kind, timeline } = routeOf(message);
  return registry.publish(kind, timeline, message as TypedMessage);
}

/** Writes queued messages until the subscriber goes away or the service stops. */
async function deliver(
  deps: BrokerDeps,
  filter: Filter,
  call: CallContext,
  write: (message: TypedMessage) => Promise<void>,
): Promise<void> {
  const ended = AbortSignal.any([call.signal, deps.stopping]);
  let wake: (() => void) | null = null;
  const notify = (): void => wake?.();
  const subscription = deps.registry.subscribe(filter, notify);
  deps.log.debug({ peer: call.peer, timeline: filter.timeline }, 'subscribed');
  ended.addEventListener('abort', notify);
  try {
    while (!ended.aborted) {
      const message = subscription.take();
      if (message !== undefined) {
        await write(message);
        continue;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      wake = null;
    }
  } finally {
    ended.removeEventListener('abort', notify);
    subscription.close();
    const { droppedCount } = subscription;
    deps.log.debug({ peer: call.peer, timeline: filter.timeline, droppedCount }, 'subscription ended');
  }
}
