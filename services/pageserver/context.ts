/**
 * Builds the page server out of its parts and takes it apart again. Start order: lock, object store, tenants, then the ports, so that
 * whoever connects finds everything there.
 */
import { randomInt } from 'node:crypto';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { LocationServiceService } from '#gen/neon/pageserver/v1/location.js';
import { HistoryServiceService } from '#gen/neon/pageserver/v1/history.js';
import { ShardServiceService } from '#gen/neon/pageserver/v1/shard.js';
import { ManagementServiceService } from '#gen/neon/pageserver/v1/management.js';
import { PageServiceService } from '#gen/neon/pageserver/v1/page_service.js';
import { TransferServiceService } from '#gen/neon/pageserver/v1/transfer.js';
import { errorText } from '#shared/core/errors.js';
import { ensureDir, lockDir } from '#shared/io/files.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { GrpcServer } from '#shared/rpc/server.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import type { HttpServer } from '#shared/runtime/http.js';
import { startHttp } from '#shared/runtime/http.js';
import type { Logger } from '#shared/runtime/log.js';
import { createMetrics } from '#shared/runtime/metrics.js';
import type { Config } from './config.js';
import { reconstructPage } from './core/redo/redo.js';
import type { Listener } from './edge/listener.js';
import { startListener } from './edge/listener.js';
import { PagestreamStats } from './edge/pagestream-stats.js';
import { addRoutes } from './http/routes.js';
import { MeteredStore } from './io/metered-store.js';
import type { StorageEnv } from './io/storage-env.js';
import { createStorageEnv } from './io/storage-env.js';
import { planMemory } from './memory-plan.js';
import { registerMetrics } from './metrics.js';
import { registerRemoteMetrics } from './remote-metrics.js';
import { locationService } from './rpc/location-service.js';
import { historyService } from './rpc/history-service.js';
import { shardService } from './rpc/shard-service.js';
import { managementService } from './rpc/management-service.js';
import { pageService } from './rpc/page-service.js';
import { transferService } from './rpc/transfer-service.js';
import { Maintenance } from './tenant/maintenance.js';
import { TenantManager } from './tenant/tenant-manager.js';
import { openBrokerFeed } from './walreceiver/broker-feed.js';
import { POLICY_DEFAULTS } from './walreceiver/core/receiver-policy.js';

/** Time for calls under way at shutdown. */
const GRPC_GRACE_MS = 2_000;
/** For the flush of each timeline at shutdown; what is late comes again from the safekeepers. */
const FLUSH_TIMEOUT_MS = 15_000;
/** As many page requests of one connection as are read together at most; more wait in the socket. */
const IN_FLIGHT_MAX = 64;

export interface PageServer {
  readonly pg: string;
  readonly grpc: string;
  readonly http: string;
  readonly tenants: TenantManager;
  /** Stops accepting, flushes within a bound, closes. `isCrash`: closes only, as tests of a crash want it. */
  stop(options?: { readonly isCrash?: boolean }): Promise<void>;
}

export async function startPageServer(config: Config, log: Logger): Promise<PageServer> {
  await ensureDir(config.workdir);
  const unlock = await lockDir(config.workdir);
  const objectStore = await openMetered(config.remoteStorage, log);
  const storage = createStorageEnv({
    objectStore,
    workDir: config.workdir,
    log,
    reconstructPage,
    limits: {
      checkpointDistanceBytes: config.checkpointDistance,
      checkpointTimeoutMs: config.checkpointTimeoutMs,
      localLayerBytesMax: config.localLayerBytesMax ?? Infinity,
      ...(config.memoryMax === undefined ? {} : planMemory(config.memoryMax).limits),
    },
  });
  const feed = openBrokerFeed(config.brokerEndpoint, log);
  const ingestStats = { records: 0, bytes: 0 };
  const tenants = new TenantManager(
    {
      storage,
      feed,
      log,
      policy: { ...POLICY_DEFAULTS, availabilityZone: config.availabilityZone },
      clientName: `pageserver-${config.id}`,
      nodeId: config.id,
      ingestStats,
      initdbImage: config.initdbImage ?? null,
      waitLsnTimeoutMs: config.waitLsnTimeoutMs,
    },
    {
      nodeId: config.id,
      random: () => randomInt(0x1000),
      secondaryPeriodMs: config.secondaryPeriodMs,
      attachAtStart: config.attachAtStart,
    },
  );
  const pagestream = new PagestreamStats((err) => log.error({ err }, 'could not answer a request of a compute'));
  const metrics = createMetrics('pageserver');
  registerMetrics(metrics, { tenants, pagestream, ingest: ingestStats });
  registerRemoteMetrics(metrics, { store: objectStore, layers: storage.layers, tenants });
  await tenants.start();
  const maintenance = new Maintenance(() => tenants.timelines(), log);
  maintenance.start(config);
  const ports = await openPorts({ config, log, tenants, pagestream, metrics });
  const stop = async ({ isCrash = false } = {}): Promise<void> => {
    maintenance.stop();
    await ports.close(isCrash ? 0 : GRPC_GRACE_MS);
    await tenants.stop(isCrash ? 0 : FLUSH_TIMEOUT_MS);
    feed.close();
    await closeStorage(storage);
    await metrics.close();
    await unlock();
  };
  return { pg: ports.pg.addr, grpc: ports.grpc.addr, http: ports.http.addr, tenants, stop };
}

async function openMetered(url: string, log: Logger): Promise<MeteredStore> {
  let retryCount = 0;
  const store = await openObjectStore(url, {
    onRetry: ({ doing, attempt, error }) => {
      retryCount++;
      log.debug({ doing, attempt, reason: errorText(error) }, 'a request to the object store is tried again');
    },
  });
  return new MeteredStore(store, () => retryCount);
}

interface PortParts {
  readonly config: Config;
  readonly log: Logger;
  readonly tenants: TenantManager;
  readonly pagestream: PagestreamStats;
  readonly metrics: ReturnType<typeof createMetrics>;
}

interface Ports {
  readonly pg: Listener;
  readonly grpc: GrpcServer;
  readonly http: HttpServer;
  close(graceMs: number): Promise<void>;
}

async function openPorts({ config, log, tenants, pagestream, metrics }: PortParts): Promise<Ports> {
  const { waitLsnTimeoutMs } = config;
  const pg = await startListener({
    addr: config.listenPg,
    log,
    stats: pagestream,
    findTimeline: (ttid) => tenants.find(ttid).reader,
    pagestream: { waitLsnTimeoutMs, inFlightMax: IN_FLIGHT_MAX },
  });
  const services: ReadonlyArray<readonly [ServiceDefinition, UntypedServiceImplementation]> = [
    [PageServiceService, pageService({ timelines: tenants, waitLsnTimeoutMs })],
    [LocationServiceService, locationService({ tenants })],
    [ManagementServiceService, managementService({ tenants, nodeId: config.id })],
    [HistoryServiceService, historyService({ tenants })],
    [ShardServiceService, shardService({ tenants })],
    [TransferServiceService, transferService({ tenants, waitLsnTimeoutMs })],
  ];
  const grpc = await startGrpcServer({ addr: config.listenGrpc, log, services });
  const http = await startHttp({
    addr: config.listenHttp,
    log,
    metrics,
    routes: (server) => addRoutes(server, { tenants, nodeId: config.id }),
  });
  const close = async (graceMs: number): Promise<void> => {
    await Promise.all([pg.close(), grpc.shutdown(graceMs), http.close()]);
  };
  return { pg, grpc, http, close };
}

async function closeStorage(storage: StorageEnv): Promise<void> {
  await storage.layers.close();
}
