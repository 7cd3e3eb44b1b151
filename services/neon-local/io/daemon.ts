/** The daemon of a stack: owns the directory's lock, the catalog, the storage services, the computes and what it serves. */
import { errorText, StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import { ensureDir, lockDir } from '#shared/io/files.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import type { GrpcServer } from '#shared/rpc/server.js';
import type { Logger } from '#shared/runtime/log.js';
import { finishTimeline, storageOf } from '../core/catalog.js';
import type { Catalog, ComputeEntry } from '../core/catalog-schema.js';
import type { StackConfig } from '../core/stack-config.js';
import { startRest } from '../rest/server.js';
import type { RestServer } from '../rest/server.js';
import type { Target } from '../core/connect-target.js';
import { ensureCompute, startCompute } from '../rpc/computes.js';
import { makeHandlers } from '../rpc/handlers.js';
import type { ControlHandlers } from '../rpc/handlers.js';
import { grpcServices } from '../rpc/services.js';
import { Autoscaler, groupsBelow, USUAL_TIMING } from './autoscaler.js';
import type { AutoscalerTiming } from './autoscaler.js';
import { ComputeManager } from './compute-manager.js';
import { Operations } from './operations.js';
import { endLeftovers } from './pid-files.js';
import { choosePort } from './ports.js';
import { computesDir } from './postgres-user.js';
import { loadCertificate } from './certificate.js';
import { ConnectServer } from './connect-server.js';
import type { RunningCompute } from './connect-server.js';
import { Suspender } from './suspend.js';
import type { RepoDir } from './repo-dir.js';
import { StorageStack } from './storage-stack.js';
import { Timelines } from './timelines.js';

const DEFAULT_GRPC_PORT = 3001;
const DEFAULT_REST_PORT = 3000;
const DEFAULT_CONNECT_PORT = 5432;
const DEFAULT_PG_BIN = '/usr/lib/postgresql/15/bin';
/** Work that could not be finished because a service was away is tried again. */
const SETTLE_PERIOD_MS = 30_000;

export interface DaemonOptions {
  readonly repo: RepoDir;
  readonly log: Logger;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Called when a client asks the daemon to stop. */
  readonly onShutdownRequest: () => void;
  readonly autoscaler?: AutoscalerTiming;
}

interface OwnPorts {
  readonly grpc: number;
  readonly rest: number;
  readonly connect: number;
}

interface Parts {
  readonly config: StackConfig;
  readonly stack: StorageStack;
  readonly computes: ComputeManager;
  readonly catalog: Catalog;
  readonly taken: Set<number>;
  readonly release: () => Promise<void>;
}

export class Daemon {
  readonly repo: RepoDir;
  readonly log: Logger;
  readonly config: StackConfig;
  readonly stack: StorageStack;
  readonly computes: ComputeManager;
  readonly timelines: Timelines;
  readonly handlers: ControlHandlers;
  readonly operations = new Operations();
  /** Directory of Postgres' programs. */
  readonly pgBin: string;
  /** Ports that are spoken for. */
  readonly taken: Set<number>;
  readonly requestShutdown: () => void;
  private catalogNow: Catalog;
  private saving: Promise<unknown> = Promise.resolve();
  private grpc: GrpcServer | null = null;
  private rest: RestServer | null = null;
  private connect: ConnectServer | null = null;
  private suspender: Suspender | null = null;
  private autoscaler: Autoscaler | null = null;
  private readonly startsUnderWay = new Map<string, Promise<RunningCompute>>();
  private settleTimer: NodeJS.Timeout | null = null;
  private settling: Promise<void> = Promise.resolve();
  /** Timelines that are being made by a running request: they are not left over. */
  private readonly underWay = new Set<string>();
  private readonly release: () => Promise<void>;

  private constructor(options: DaemonOptions, parts: Parts) {
    this.repo = options.repo;
    this.log = options.log;
    this.pgBin = pgBinOf(options.env);
    this.requestShutdown = options.onShutdownRequest;
    this.config = parts.config;
    this.stack = parts.stack;
    this.computes = parts.computes;
    this.catalogNow = parts.catalog;
    this.taken = parts.taken;
    this.release = parts.release;
    this.timelines = new Timelines(parts.stack, (tenantId) => storageOf(this.catalogNow, tenantId), options.log);
    this.handlers = makeHandlers(this);
  }

  /** Takes the directory, starts the services and serves. On a failure everything is stopped again. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { repo, log } = options;
    const config = await repo.config();
    const release = await lockDir(repo.path).catch((cause: unknown) => {
      throw new StorageError('precondition', `the stack in ${repo.path} is running already; "neon status" shows it`, {
        cause,
      });
    });
    try {
      const catalog = await repo.catalog();
      await repo.saveConfig(config);
      await ensureDir(repo.runDir);
      await endLeftovers(repo.runDir, log);
      const taken = new Set<number>();
      const stack = new StorageStack(repo, config, log);
      const computes = new ComputeManager({
        baseDir: await computesDir(repo.path),
        pgBin: pgBinOf(options.env),
        stack,
        runDir: repo.runDir,
        taken,
        freePorts: config.freePorts,
        log,
        logPath: (name) => repo.logPath(name),
        keepSpare: options.env['NEON_SPARE_COMPUTE'] !== '0',
        groupOf: (name) => `${groupsBelow(repo.path)}/${name}`,
      });
      await computes.removeLeftovers();
      const daemon = new Daemon(options, { config, stack, computes, catalog, taken, release });
      const ports = await daemon.choosePorts();
      await stack.start(taken, catalog.storages);
      daemon.autoscaler = await daemon.startAutoscaler(options.autoscaler ?? USUAL_TIMING);
      await daemon.serve(ports);
      if (catalog.computes.length > 0) computes.expectStart();
      return daemon;
    } catch (error) {
      await release();
      throw error;
    }
  }

  private async choosePorts(): Promise<OwnPorts> {
    const remembered = await this.repo.ports();
    const choose = async (name: keyof OwnPorts, usual: number) => {
      const fixed = this.config.ports[name];
      if (fixed !== 0) {
        const port = await choosePort([fixed], this.taken);
        if (port !== fixed)
          throw new StorageError(
            'precondition',
            `port ${fixed} is taken by another program; free it, or change "ports" in config.json`,
          );
        return port;
      }
      return choosePort([remembered[`daemon.${name}`] ?? 0, this.config.freePorts ? 0 : usual], this.taken);
    };
    return {
      grpc: await choose('grpc', DEFAULT_GRPC_PORT),
      rest: await choose('rest', DEFAULT_REST_PORT),
      connect: await choose('connect', DEFAULT_CONNECT_PORT),
    };
  }

  private async serve(ports: OwnPorts): Promise<void> {
    try {
      this.grpc = await startGrpcServer({
        addr: `127.0.0.1:${ports.grpc}`,
        log: this.log,
        services: grpcServices(this.handlers),
      });
      this.rest = await startRest({ addr: `127.0.0.1:${ports.rest}`, log: this.log, handlers: this.handlers });
      await this.startConnect(ports.connect);
      const own = Object.entries(ports).map(([name, port]) => [`daemon.${name}`, port] as const);
      await this.repo.savePorts({ ...(await this.repo.ports()), ...Object.fromEntries(own) });
      await this.repo.saveDaemon({
        ...{ pid: process.pid, grpcAddr: this.grpcAddr, restUrl: this.restUrl, connectAddr: this.connectAddr },
      });
    } catch (error) {
      await this.connect?.close();
      await this.rest?.close();
      await this.grpc?.shutdown(0);
      await this.stack.stop();
      throw error;
    }
    this.settleTimer = setInterval(() => void this.settle(), SETTLE_PERIOD_MS);
    void this.settle();
  }

  private startAutoscaler(timing: AutoscalerTiming): Promise<Autoscaler> {
    return Autoscaler.start({
      ...timing,
      log: this.log,
      groupsBelow: groupsBelow(this.repo.path),
      running: () =>
        this.catalog.computes
          .filter((entry) => entry.maxCu > 0)
          .map((entry) => ({ entry, runtime: { ...this.computes.runtime(entry.name), pgPort: entry.pgPort } }))
          .filter(({ runtime }) => runtime.state === 'running' && runtime.monitorAddr !== ''),
    });
  }

  /** Size of a compute that is scaled; 0: it is not, or not yet. */
  currentCu(name: string): number {
    return this.autoscaler?.currentCu(name) ?? 0;
  }

  private async startConnect(port: number): Promise<void> {
    const suspender = new Suspender({
      log: this.log,
      running: () => this.catalog.computes.filter(({ name }) => this.computes.runtime(name).state === 'running'),
      stop: (name) => this.computes.stop(name, false),
    });
    this.suspender = suspender;
    this.connect = await ConnectServer.start({
      host: '127.0.0.1',
      port,
      secureContext: await loadCertificate(this.repo.path, this.config.tls),
      log: this.log,
      catalog: () => this.catalog,
      ensureRunning: (target) => this.ensureRunning(target),
      onActivity: suspender.touch,
    });
  }

  /** Starts the compute of a branch; however many ask at once, it is started once. */
  private ensureRunning(target: Target): Promise<RunningCompute> {
    const key = target.kind === 'branch' ? `branch ${target.branch.timelineId}` : `compute ${target.compute.name}`;
    const underWay = this.startsUnderWay.get(key);
    if (underWay !== undefined) return underWay;
    const start = this.startTarget(target).finally(() => this.startsUnderWay.delete(key));
    this.startsUnderWay.set(key, start);
    return start;
  }

  private async startTarget(target: Target): Promise<RunningCompute> {
    const entry = target.kind === 'compute' ? target.compute : await ensureCompute(this, target.branch);
    const { name, pgPort } = await startCompute(this, entry.name, 0);
    return { name, pgPort };
  }

  get grpcAddr(): string {
    return this.grpc?.addr ?? '';
  }

  get restUrl(): string {
    return this.rest === null ? '' : `http://localhost:${this.rest.port}`;
  }

  get connectAddr(): string {
    return this.connect === null ? '' : `127.0.0.1:${this.connect.port}`;
  }

  /** URL of a compute through the connect port; empty when there is none. */
  connectUrl(compute: ComputeEntry): string {
    if (this.connectAddr === '') return '';
    return `postgresql://cloud_admin@${this.connectAddr}/postgres?options=endpoint%3D${compute.name}`;
  }

  get catalog(): Catalog {
    return this.catalogNow;
  }

  /** Changes the catalog: the new one is durable when this returns. Changes run one after the other. */
  async changeCatalog(change: (catalog: Catalog) => Catalog): Promise<Catalog> {
    const run = this.saving.then(async () => {
      const next = change(this.catalogNow);
      if (next === this.catalogNow) return next;
      await this.repo.saveCatalog(next);
      this.catalogNow = next;
      return next;
    });
    this.saving = run.catch(() => undefined);
    return run;
  }

  /**
   * Runs the making of a timeline that the catalog lists as unfinished: `act` must put it into the catalog. When it fails, or we die,
   * the timeline is deleted again.
   */
  async makingTimeline<T>(ttid: TenantTimelineId, act: () => Promise<T>): Promise<T> {
    this.underWay.add(ttid.timelineId);
    try {
      return await act();
    } finally {
      this.underWay.delete(ttid.timelineId);
      if (this.catalog.unfinished.length > 0) void this.settle();
    }
  }

  /** Deletes timelines that no name means any more. What cannot be deleted now is tried again later. */
  settle(): Promise<void> {
    this.settling = this.settling.then(async () => {
      for (const ttid of this.catalog.unfinished) {
        if (this.underWay.has(ttid.timelineId)) continue;
        try {
          await this.timelines.delete(ttid);
          await this.changeCatalog((catalog) => finishTimeline(catalog, ttid));
          this.log.info({ ...ttid }, 'deleted a timeline without a name');
        } catch (error) {
          this.log.info({ ...ttid, reason: errorText(error) }, 'a timeline without a name cannot be deleted yet');
        }
      }
    });
    return this.settling;
  }

  /** Computes, then services, then our own servers. */
  async stop(): Promise<void> {
    if (this.settleTimer !== null) clearInterval(this.settleTimer);
    this.suspender?.close();
    await this.operations.close();
    await this.connect?.close();
    await this.rest?.close();
    await this.computes.stopAll().catch((error: unknown) => {
      this.log.error({ reason: errorText(error) }, 'stopping computes failed');
    });
    await this.autoscaler?.close();
    await this.settling;
    await this.stack.stop();
    await this.repo.clearDaemon();
    await this.grpc?.shutdown(1_000);
    await this.release();
  }
}

function pgBinOf(env: Readonly<Record<string, string | undefined>>): string {
  return env['PG_BIN'] ?? DEFAULT_PG_BIN;
}

/** "0/0" as a dash, for texts. */
export function lsnText(value: bigint | number): string {
  return Number(value) === 0 ? '-' : formatLsn(lsn(Number(value)));
}
