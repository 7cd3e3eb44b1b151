/**
 * The page server's ear at the storage broker: one subscription for all timelines, kept alive for ever, handed out by timeline. The
 * broker retains nothing and may come and go; then only the feed pauses.
 */
import type { ClientReadableStream } from '@grpc/grpc-js';
import type { SubscribeByFilterResponse } from '#gen/neon/broker/v1/broker.js';
import { BrokerServiceClient, MessageType } from '#gen/neon/broker/v1/broker.js';
import { errorText } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatTtid, parseTtid } from '#shared/core/ids.js';
import { lsnFromWire } from '#shared/core/lsn.js';
import { callUnary, createClient, traceMetadata } from '#shared/rpc/client.js';
import type { Logger } from '#shared/runtime/log.js';
import type { SafekeeperState } from './core/receiver-policy.js';

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 3_000;
const PUBLISH_DEADLINE_MS = 3_000;

export type FeedListener = (state: SafekeeperState) => void;

export interface BrokerFeed {
  /** Hears every info about the timeline until the returned function is called. */
  subscribe(ttid: TenantTimelineId, listener: FeedListener): () => void;
  /** Asks the timeline's safekeepers to make themselves known. Failures are only logged: the next request comes soon. */
  requestDiscovery(ttid: TenantTimelineId): void;
  readonly isConnected: boolean;
  close(): void;
}

export function openBrokerFeed(brokerAddr: string, log: Logger): BrokerFeed {
  return new GrpcBrokerFeed(brokerAddr, log);
}

class GrpcBrokerFeed implements BrokerFeed {
  readonly #client: BrokerServiceClient;
  readonly #log: Logger;
  readonly #listeners = new Map<string, Set<FeedListener>>();
  #stream: ClientReadableStream<SubscribeByFilterResponse> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retryMs = RETRY_FIRST_MS;
  #isConnected = false;
  #isClosed = false;

  constructor(brokerAddr: string, log: Logger) {
    this.#client = createClient(BrokerServiceClient, brokerAddr);
    this.#log = log.child({ broker: brokerAddr });
    this.#open();
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  subscribe(ttid: TenantTimelineId, listener: FeedListener): () => void {
    const name = formatTtid(ttid);
    const listeners = this.#listeners.get(name) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(name, listeners);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(name);
    };
  }

  requestDiscovery(ttid: TenantTimelineId): void {
    if (this.#isClosed) return;
    const message = { message: { $case: 'safekeeperDiscoveryRequest', value: { ttid } } } as const;
    callUnary(this.#client, this.#client.publishOne, { message }, { deadlineMs: PUBLISH_DEADLINE_MS }).catch(
      (error: unknown) => this.#log.debug({ reason: errorText(error) }, 'could not ask for safekeepers'),
    );
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#stream?.cancel();
    this.#client.close();
  }

  #open(): void {
    const types = [MessageType.SAFEKEEPER_TIMELINE_INFO, MessageType.SAFEKEEPER_DISCOVERY_RESPONSE];
    const stream = this.#client.subscribeByFilter({ types, ttid: undefined }, traceMetadata());
    this.#stream = stream;
    stream.on('metadata', () => this.#noteConnected());
    stream.on('data', (response: SubscribeByFilterResponse) => {
      this.#noteConnected();
      this.#deliver(response);
    });
    stream.on('error', (error: Error) => this.#reopen(stream, error));
    stream.on('end', () => this.#reopen(stream, null));
  }

  #noteConnected(): void {
    this.#retryMs = RETRY_FIRST_MS;
    if (this.#isConnected) return;
    this.#isConnected = true;
    this.#log.info('connected to the storage broker');
  }

  /** Both an error and an end may be reported for one stream; the first counts. */
  #reopen(stream: ClientReadableStream<SubscribeByFilterResponse>, error: Error | null): void {
    if (this.#isClosed || this.#stream !== stream) return;
    this.#stream = null;
    if (this.#isConnected) this.#log.info({ reason: errorText(error) }, 'lost the storage broker, trying again');
    this.#isConnected = false;
    this.#timer = setTimeout(() => this.#open(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  #deliver(response: SubscribeByFilterResponse): void {
    const message = response.message?.message;
    const info =
      message?.$case === 'safekeeperTimelineInfo'
        ? message.value
        : message?.$case === 'safekeeperDiscoveryResponse'
          ? message.value.info
          : undefined;
    if (info?.ttid === undefined) return;
    try {
      const listeners = this.#listeners.get(formatTtid(parseTtid(info.ttid)));
      if (listeners === undefined) return;
      const state: SafekeeperState = {
        safekeeperId: info.safekeeperId.toString(),
        commitLsn: lsnFromWire(info.commitLsn),
        grpcAddr: info.grpcAddr,
        availabilityZone: info.availabilityZone,
      };
      for (const listener of listeners) listener(state);
    } catch (error) {
      this.#log.warn({ reason: errorText(error) }, 'ignored a broken message of the broker');
    }
  }
}
