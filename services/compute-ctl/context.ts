/** Builds a compute from its configuration: the compute itself, its gRPC and HTTP servers, metrics. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ComputeServiceService } from '#gen/neon/compute/v1/compute.js';
import { PromotionServiceService } from '#gen/neon/compute/v1/promotion.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import { formatAddr } from '#shared/core/addr.js';
import { startHttp } from '#shared/runtime/http.js';
import type { Logger } from '#shared/runtime/log.js';
import { createMetrics, type Metrics } from '#shared/runtime/metrics.js';
import { Compute } from './compute.js';
import type { ComputeConfig } from './config.js';
import { computeService, type ComputeControl } from './rpc/compute-service.js';
import { addRoutes } from './rpc/http-routes.js';
import { addPromotionRoute, promotionService } from './rpc/promotion-service.js';

/** Time for answers that are under way. */
const GRACE_MS = 300;
const LATENCY_BOUNDS_MS = [0.5, 1, 2, 3, 5, 10, 20, 50, 100, 500, 2_000];

export interface ComputeProcess {
  readonly compute: Compute;
  readonly log: Logger;
  readonly grpcAddr: string;
  readonly httpAddr: string;
  /** Resolves with the exit code when the process has no reason to live any more; the status was readable for a while. */
  readonly finished: Promise<number>;
  stop(): Promise<void>;
}

export async function startServers(config: ComputeConfig, compute: Compute, log: Logger): Promise<ComputeProcess> {
  const asked = Promise.withResolvers<number>();
  const control: ComputeControl = {
    status: () => compute.status(),
    terminate: async (mode) => {
      const { flushLsn, exitCode } = await compute.terminate(mode);
      const lingerMs = mode === 'fast' ? config.lingerMs : 0;
      void sleep(lingerMs).then(() => asked.resolve(exitCode));
      return lsnToWire(flushLsn);
    },
  };
  const promote = async () => lsnToWire(await compute.promote());
  const failed = compute.ended.then(async (exitCode) => {
    if (compute.status().phase === 'failed') await sleep(config.lingerMs);
    else await asked.promise;
    return exitCode;
  });
  const metrics = createMetrics('compute_ctl');
  registerMetrics(metrics, compute);
  const grpc = await startGrpcServer({
    addr: config.listenGrpc,
    log,
    services: [
      [ComputeServiceService, computeService(control)],
      [PromotionServiceService, promotionService(promote)],
    ],
  });
  const httpAddr =
    config.externalHttpPort === undefined ? config.listenHttp : formatAddr('0.0.0.0', config.externalHttpPort);
  const ready = (): boolean => compute.status().phase === 'running';
  const http = await startHttp({
    addr: httpAddr,
    log,
    metrics,
    ready,
    routes: (server) => {
      addRoutes(server, control);
      addPromotionRoute(server, promote);
    },
  }).catch(async (error: unknown) => {
    await grpc.shutdown(0);
    throw error;
  });
  return {
    compute,
    log,
    grpcAddr: grpc.addr,
    httpAddr: http.addr,
    finished: failed,
    stop: async () => {
      await grpc.shutdown(GRACE_MS);
      await http.close();
      await metrics.close();
    },
  };
}

function registerMetrics(metrics: Metrics, compute: Compute): void {
  const source = () => compute.storage?.runner.source;
  const peers = () => compute.storage?.runner.proposer.peers ?? [];
  const addr = (index: number): string => compute.storage?.runner.addrs[index] ?? '';
  metrics.gauge('compute_commit_lsn', 'WAL committed by the quorum', () => compute.status().commitLsn);
  metrics.gauge('compute_received_lsn', 'WAL sent by Postgres', () => compute.commits?.receivedLsn ?? 0);
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
    () => compute.throttling?.totalUs ?? 0,
  );
  metrics.gauge(
    'compute_backpressure_throttled_writers',
    'Writers that wait for the page server now',
    () => compute.throttling?.writersNow ?? 0,
  );
  const latency = metrics.histogram(
    'compute_commit_latency_ms',
    'From the arrival of WAL to its commit',
    LATENCY_BOUNDS_MS,
  );
  compute.onCommitLatency = (latencyMs) => latency.record(latencyMs);
}
