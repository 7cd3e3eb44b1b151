/** Builds a safekeeper from its configuration: data directory, timelines, servers, link to the broker. */
import path from 'node:path';
import { ensureDir, lockDir } from '#shared/io/files.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { startGrpcServer, type GrpcServer } from '#shared/rpc/server.js';
import { reachableAddr } from '#shared/core/addr.js';
import { startHttp, type HttpServer } from '#shared/runtime/http.js';
import { createLogger, type Logger } from '#shared/runtime/log.js';
import { createMetrics, type Metrics } from '#shared/runtime/metrics.js';
import { SafekeeperServiceService } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { TimelineAdminServiceService } from '#gen/neon/safekeeper/v1/timeline_admin.js';
import type { SafekeeperConfig } from './config.js';
import { realDisk, type Disk } from './io/disk.js';
import { claimNodeId } from './io/node-id.js';
import type { Timeline } from './io/timeline.js';
import { Timelines } from './io/timelines.js';
import type { PullDeps } from './io/pull.js';
import { DISCOVERY_MS, Refill } from './io/refill.js';
import { Upkeep } from './io/upkeep.js';
import { newWalObjectCounters, WalObjects } from './io/wal-objects.js';
import { newWalStorageCounters } from './io/wal-storage.js';
import { registerMetrics } from './metrics.js';
import { BrokerLink } from './rpc/broker-link.js';
import { consensusService } from './rpc/consensus-service.js';
import { httpRoutes } from './rpc/http-routes.js';
import { ReplicationListener } from './rpc/replication-listener.js';
import { safekeeperService } from './rpc/safekeeper-service.js';
import { timelineAdminService } from './rpc/timeline-admin.js';
import { FastConsensusService, FastWalService } from './rpc/wal-codec.js';
import { walService } from './rpc/wal-service.js';

/** Time for streams to end by themselves; what was acknowledged is durable anyway. */
const GRACE_MS = 1_000;
/** How far positions in an idle timeline's control file may be behind. */
const CHECKPOINT_INTERVAL_MS = 300_000;

export interface Safekeeper {
  readonly nodeId: number;
  readonly grpcAddr: string;
  readonly httpAddr: string;
  readonly log: Logger;
  readonly timelines: Timelines;
  stop(): Promise<void>;
}

export interface Overrides {
  readonly log?: Logger;
  readonly disk?: Disk;
}

export async function startSafekeeper(config: SafekeeperConfig, overrides: Overrides = {}): Promise<Safekeeper> {
  const dataDir = path.resolve(config.datadir);
  await ensureDir(dataDir);
  const unlock = await lockDir(dataDir);
  try {
    const nodeId = await claimNodeId(dataDir, config.id);
    return await start({ config, overrides, dataDir, nodeId, unlock });
  } catch (error) {
    await unlock();
    throw error;
  }
}

interface StartOptions {
  readonly config: SafekeeperConfig;
  readonly overrides: Overrides;
  readonly dataDir: string;
  readonly nodeId: number;
  readonly unlock: () => Promise<void>;
}

async function start({ config, overrides, dataDir, nodeId, unlock }: StartOptions): Promise<Safekeeper> {
  const { logLevel: level, logPretty: pretty } = config;
  const made = (): Logger =>
    createLogger({ service: 'safekeeper', level, ...(pretty === undefined ? {} : { pretty }) });
  const log = (overrides.log ?? made()).child({ safekeeper: nodeId });
  const counters = newWalStorageCounters();
  const disk = overrides.disk ?? realDisk({ sync: config.sync });
  // The link needs the address that the server gets, which needs the timelines: changes before that are not news.
  let link: BrokerLink | null = null;
  const onChange = (timeline: Timeline): void => link?.consider(timeline);
  const objects = await openObjects(config);
  const timelines = await Timelines.load({ dataDir, disk, nodeId, counters, log, onChange, objects });
  const refill = new Refill({
    nodeId,
    timelines,
    objects,
    log,
    discover: async (ttid) => (await link?.discover(ttid, DISCOVERY_MS)) ?? [],
  });
  const metrics = createMetrics('safekeeper');
  const sent = { bytes: 0 };
  const stopping = new AbortController();
  const { signal } = stopping;
  const onSent = (bytes: number): void => void (sent.bytes += bytes);
  const replication = new ReplicationListener({ timelines, stopping: signal, onSent, log });
  const { grpc, http } = await startServers({
    config,
    replication,
    nodeId,
    log,
    metrics,
    timelines,
    objects,
    refill,
    signal,
    onSent,
  });
  const grpcAddr = config.advertiseGrpc ?? reachableAddr(grpc.addr);
  const { brokerEndpoint: brokerAddr, availabilityZone } = config;
  const httpAddr = reachableAddr(http.addr);
  link = new BrokerLink({ brokerAddr, nodeId, grpcAddr, httpAddr, availabilityZone, timelines, log });
  registerMetrics(metrics, { timelines, counters, link, sent, objects });
  const upkeep = newUpkeep({ config, timelines, objects, link });
  link.start();
  upkeep.start();
  const checkpoints = setInterval(() => {
    for (const timeline of timelines.all()) timeline.submit({ kind: 'checkpoint' });
  }, CHECKPOINT_INTERVAL_MS);
  return {
    nodeId,
    grpcAddr: grpc.addr,
    httpAddr: http.addr,
    log,
    timelines,
    stop: async () => {
      clearInterval(checkpoints);
      link.stop();
      stopping.abort();
      replication.close();
      await upkeep.stop();
      await refill.stop();
      await grpc.shutdown(GRACE_MS);
      await timelines.close();
      await http.close();
      await metrics.close();
      await unlock();
    },
  };
}

async function openObjects({ remoteStorage }: SafekeeperConfig): Promise<WalObjects | null> {
  if (remoteStorage === undefined) return null;
  return new WalObjects(await openObjectStore(remoteStorage), newWalObjectCounters());
}

function newUpkeep(given: {
  config: SafekeeperConfig;
  timelines: Timelines;
  objects: WalObjects | null;
  link: BrokerLink;
}): Upkeep {
  const { config, timelines, objects, link } = given;
  return new Upkeep({
    timelines,
    objects,
    peerRecovery: config.peerRecovery,
    ask: (ttid) => link.ask(ttid),
    intervalMs: config.upkeepIntervalMs,
    partialTimeoutMs: config.partialBackupTimeoutMs,
    evictionMinResidentMs: config.evictionMinResidentMs,
    lagBytesMax: config.peerLagBytesMax,
    offloaderLagBytesMax: config.maxOffloaderLag,
  });
}

interface ServerOptions extends PullDeps {
  readonly replication: ReplicationListener;
  readonly config: SafekeeperConfig;
  readonly nodeId: number;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly refill: Refill;
  readonly signal: AbortSignal;
  readonly onSent: (bytes: number) => void;
}

/** Both, or none and the timelines closed. */
async function startServers(options: ServerOptions): Promise<{ grpc: GrpcServer; http: HttpServer }> {
  const { config, nodeId, log, metrics, timelines, objects, refill, replication, signal, onSent } = options;
  const grpc = await startGrpcServer({
    addr: config.listenGrpc,
    log,
    other: (socket) => replication.accept(socket),
    services: [
      [FastConsensusService, consensusService({ timelines, refill, stopping: signal })],
      [FastWalService, walService({ timelines, stopping: signal, onSent })],
      [SafekeeperServiceService, safekeeperService({ nodeId, timelines })],
      [TimelineAdminServiceService, timelineAdminService({ nodeId, timelines, objects })],
    ],
  });
  const http = await startHttp({
    addr: config.listenHttp,
    log,
    metrics,
    routes: httpRoutes({ nodeId, timelines, objects }),
  }).catch(async (error: unknown) => {
    await grpc.shutdown(0);
    await timelines.close();
    throw error;
  });
  return { grpc, http };
}
