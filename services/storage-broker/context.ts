/** Builds the broker from its configuration: registry, gRPC and HTTP servers, metrics. */
import { startGrpcServer } from '#shared/rpc/server.js';
import { startHttp } from '#shared/runtime/http.js';
import { createLogger, type Logger } from '#shared/runtime/log.js';
import { createMetrics, type Metrics } from '#shared/runtime/metrics.js';
import { BrokerServiceService, type TypedMessage } from '#gen/neon/broker/v1/broker.js';
import type { BrokerConfig } from './config.js';
import { Registry } from './core/registry.js';
import { brokerService } from './rpc/broker-service.js';

/** Open calls may end by themselves within this time; there is nothing to save. */
const GRACE_MS = 500;

export interface Broker {
  readonly grpcAddr: string;
  readonly httpAddr: string;
  readonly log: Logger;
  readonly registry: Registry<TypedMessage>;
  stop(): Promise<void>;
}

export async function startBroker(config: BrokerConfig, overrides: { log?: Logger } = {}): Promise<Broker> {
  const log = overrides.log ?? createLogger(loggerOptions(config));
  const registry = new Registry<TypedMessage>();
  const metrics = createMetrics('storage-broker');
  registerMetrics(metrics, registry);
  const stopping = new AbortController();
  const implementation = brokerService({ registry, log, stopping: stopping.signal });
  const grpc = await startGrpcServer({
    addr: config.listenGrpc,
    log,
    services: [[BrokerServiceService, implementation]],
  });
  const http = await startHttp({ addr: config.listenHttp, log, metrics }).catch(async (error: unknown) => {
    await grpc.shutdown(0);
    throw error;
  });
  return {
    grpcAddr: grpc.addr,
    httpAddr: http.addr,
    log,
    registry,
    stop: async () => {
      stopping.abort();
      await grpc.shutdown(GRACE_MS);
      await http.close();
      await metrics.close();
    },
  };
}

function loggerOptions(config: BrokerConfig): Parameters<typeof createLogger>[0] {
  const { logLevel: level, logPretty: pretty } = config;
  return { service: 'storage-broker', level, ...(pretty === undefined ? {} : { pretty }) };
}

function registerMetrics(metrics: Metrics, registry: Registry<TypedMessage>): void {
  metrics.gauge('broker_subscribers', 'Open subscriptions', () => registry.subscriberCount);
  metrics.gauge('broker_timelines', 'Timelines followed by name', () => registry.timelineCount);
  metrics.counter('broker_messages_published', 'Messages taken from publishers', () => registry.publishedCount);
  metrics.counter('broker_messages_delivered', 'Messages given to subscribers', () => registry.deliveredCount);
  metrics.counter('broker_messages_dropped', 'Messages lost by slow subscribers', () => registry.droppedCount);
}
