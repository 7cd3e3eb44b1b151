/** What serves a compute: its gRPC and HTTP servers, and its metrics. */
import { CatalogServiceService } from '#gen/neon/compute/v1/catalog.js';
import { ComputeServiceService } from '#gen/neon/compute/v1/compute.js';
import { PromotionServiceService } from '#gen/neon/compute/v1/promotion.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import { formatAddr } from '#shared/core/addr.js';
import { startHttp } from '#shared/runtime/http.js';
import type { Logger } from '#shared/runtime/log.js';
import { createMetrics, type Metrics } from '#shared/runtime/metrics.js';
import type { Compute } from './compute.js';
import type { ComputeConfig } from './config.js';
import { PHASES } from './core/state-machine.js';
import { catalogService } from './rpc/catalog-service.js';
import { computeService } from './rpc/compute-service.js';
import { addRoutes } from './rpc/http-routes.js';
import { addPromotionRoute, promotionService } from './rpc/promotion-service.js';

/** Time for answers that are under way. */
const GRACE_MS = 300;
const LATENCY_BOUNDS_MS = [0.5, 1, 2, 3, 5, 10, 20, 50, 100, 500, 2_000];

export interface ComputeServers {
  readonly grpcAddr: string;
  readonly httpAddr: string;
  stop(): Promise<void>;
}

export async function startServers(config: ComputeConfig, compute: Compute, log: Logger): Promise<ComputeServers> {
  const metrics = createMetrics('compute_ctl');
  registerMetrics(metrics, compute);
  const grpc = await startGrpcServer({
    addr: config.listenGrpc,
    log,
    services: [
      [ComputeServiceService, computeService(compute)],
      [CatalogServiceService, catalogService(compute)],
      [PromotionServiceService, promotionService(compute)],
    ],
  });
  const httpAddr =
    config.externalHttpPort === undefined ? config.listenHttp : formatAddr('0.0.0.0', config.externalHttpPort);
  const http = await startHttp({
    addr: httpAddr,
    log,
    metrics,
    ready: () => compute.status().phase === 'running',
    routes: (server) => {
      addRoutes(server, compute);
      addPromotionRoute(server, compute);
    },
  }).catch(async (error: unknown) => {
    await grpc.shutdown(0);
    throw error;
  });
  return {
    grpcAddr: grpc.addr,
    httpAddr: http.addr,
    stop: async () => {
      await grpc.shutdown(GRACE_MS);
      await http.close();
      await metrics.close();
    },
  };
}

function registerMetrics(metrics: Metrics, compute: Compute): void {
  const source = () => compute.instance?.session?.runner.source;
  const peers = () => compute.instance?.session?.runner.proposer.peers ?? [];
  const addr = (index: number): string => compute.instance?.session?.runner.addrs[index] ?? '';
  metrics.gauge('compute_commit_lsn', 'WAL committed by the quorum', () => compute.status().commitLsn);
  metrics.gauge('compute_received_lsn', 'WAL sent by Postgres', () => compute.instance?.feed?.receivedLsn ?? 0);
  metrics.gauge('compute_term', 'Term led; 0 = none', () => compute.status().term);
  metrics.gauge('compute_safekeeper_flush_lsn', 'WAL durable on a safekeeper in this term', () =>
    peers().map((peer) => ({ value: peer.flushLsn, labels: { safekeeper: addr(peer.index) } })),
  );
  metrics.gauge('compute_safekeeper_streaming', '1 = takes WAL', () =>
    peers().map((peer) => ({ value: peer.phase === 'streaming' ? 1 : 0, labels: { safekeeper: addr(peer.index) } })),
  );
  metrics.counter('compute_catchup_local_bytes', 'WAL read back from pg_wal', () => source()?.localBytes ?? 0);
  metrics.counter('compute_catchup_donor_bytes', 'WAL read from safekeepers', () => source()?.donorBytes ?? 0);
  metrics.counter(
    'compute_backpressure_throttling_us',
    'Time that writers waited for a page server that is too far behind, all writers together',
    () => compute.instance?.throttling?.totalUs ?? 0,
  );
  metrics.gauge(
    'compute_backpressure_throttled_writers',
    'Writers that wait for the page server now',
    () => compute.instance?.throttling?.writersNow ?? 0,
  );
  metrics.gauge('compute_status', 'State of the compute; 1 = this one', () =>
    PHASES.map((phase) => ({ value: compute.status().phase === phase ? 1 : 0, labels: { status: phase } })),
  );
  metrics.gauge('compute_last_activity_seconds', 'When it was last used, since 1970; 0 = never', () =>
    Math.round((compute.status().lastActiveMs ?? 0) / 1000),
  );
  const latency = metrics.histogram(
    'compute_commit_latency_ms',
    'From the arrival of WAL to its commit',
    LATENCY_BOUNDS_MS,
  );
  compute.onCommitLatency = (latencyMs) => latency.record(latencyMs);
}
