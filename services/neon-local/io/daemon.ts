/** The daemon of a stack: owns the directory's lock, the catalog, the storage services, the computes and the control service. */
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import { lockDir } from '#shared/io/files.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import type { GrpcServer } from '#shared/rpc/server.js';
import type { Logger } from '#shared/runtime/log.js';
import { ControlServiceService } from '#gen/neon/control/v1/control.js';
import type { Catalog } from '../core/catalog.js';
import { controlService } from '../rpc/control-service.js';
import { ComputeManager } from './compute-manager.js';
import { choosePort } from './ports.js';
import { computesDir } from './postgres-user.js';
import type { RepoDir } from './repo-dir.js';
import { StorageStack } from './storage-stack.js';
import { Timelines } from './timelines.js';

const DEFAULT_GRPC_PORT = 3001;
const DEFAULT_PG_BIN = '/usr/lib/postgresql/15/bin';

export interface DaemonOptions {
  readonly repo: RepoDir;
  readonly log: Logger;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Called when a client asks the daemon to stop. */
  readonly onShutdownRequest: () => void;
}

export class Daemon {
  readonly repo: RepoDir;
  readonly log: Logger;
  readonly stack: StorageStack;
  readonly computes: ComputeManager;
  readonly timelines: Timelines;
  readonly requestShutdown: () => void;
  private catalogNow: Catalog;
  private saving: Promise<unknown> = Promise.resolve();
  private server: GrpcServer | null = null;
  private readonly release: () => Promise<void>;

  private constructor(
    options: DaemonOptions,
    parts: { stack: StorageStack; computes: ComputeManager; catalog: Catalog; release: () => Promise<void> },
  ) {
    this.repo = options.repo;
    this.log = options.log;
    this.requestShutdown = options.onShutdownRequest;
    this.stack = parts.stack;
    this.computes = parts.computes;
    this.catalogNow = parts.catalog;
    this.release = parts.release;
    this.timelines = new Timelines(parts.stack, options.log);
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
      const taken = new Set<number>();
      const usual = config.freePorts ? 0 : DEFAULT_GRPC_PORT;
      const port = await choosePort([(await repo.ports())['daemon.grpc'] ?? 0, usual], taken);
      const stack = new StorageStack(repo, config, log);
      const computes = new ComputeManager({
        baseDir: await computesDir(repo.path),
        pgBin: options.env['PG_BIN'] ?? DEFAULT_PG_BIN,
        stack,
        taken,
        freePorts: config.freePorts,
        log,
        logPath: (name) => repo.logPath(name),
      });
      const daemon = new Daemon(options, { stack, computes, catalog, release });
      await stack.start(taken);
      await daemon.serve(port);
      return daemon;
    } catch (error) {
      await release();
      throw error;
    }
  }

  private async serve(port: number): Promise<void> {
    try {
      this.server = await startGrpcServer({
        addr: `127.0.0.1:${port}`,
        log: this.log,
        services: [[ControlServiceService, controlService(this)]],
      });
      await this.repo.savePorts({ ...(await this.repo.ports()), 'daemon.grpc': port });
      await this.repo.saveDaemon({ pid: process.pid, grpcAddr: this.server.addr });
    } catch (error) {
      await this.stack.stop();
      throw error;
    }
  }

  get grpcAddr(): string {
    return this.server?.addr ?? '';
  }

  get catalog(): Catalog {
    return this.catalogNow;
  }

  /** Changes the catalog: the new one is durable when this returns. Changes run one after the other. */
  async changeCatalog(change: (catalog: Catalog) => Catalog): Promise<Catalog> {
    const run = this.saving.then(async () => {
      const next = change(this.catalogNow);
      await this.repo.saveCatalog(next);
      this.catalogNow = next;
      return next;
    });
    this.saving = run.catch(() => undefined);
    return run;
  }

  /** Computes, then services, then our own server. */
  async stop(): Promise<void> {
    await this.computes.stopAll().catch((error: unknown) => {
      this.log.error({ reason: errorText(error) }, 'stopping computes failed');
    });
    await this.stack.stop();
    await this.repo.clearDaemon();
    await this.server?.shutdown(1_000);
    await this.release();
  }
}

/** "0/0" as a dash, for texts. */
export function lsnText(value: bigint | number): string {
  return Number(value) === 0 ? '-' : formatLsn(lsn(Number(value)));
}
