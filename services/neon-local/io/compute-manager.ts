/** Computes of a stack: each is a compute_ctl child with a throw-away directory. Operations on one compute run one after the other. */
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ComputeServiceClient, TerminateMode } from '#gen/neon/compute/v1/compute.js';
import { PromotionServiceClient } from '#gen/neon/compute/v1/promotion.js';
import { errorText, StorageError } from '#shared/core/errors.js';
import { INVALID_LSN, lsnFromWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { removeDurable } from '#shared/io/files.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { Logger } from '#shared/runtime/log.js';
import type { ComputeEntry } from '../core/catalog-schema.js';
import { buildComputeSpec } from '../core/compute-spec.js';
import { choosePort, isPortTaken } from './ports.js';
import { programPath } from './storage-stack.js';
import type { StorageStack } from './storage-stack.js';
import { SpareProcess } from './spare-process.js';
import { childEnv, SupervisedProcess } from './supervised-process.js';
import type { ProcessState } from './supervised-process.js';

export const DEFAULT_PG_PORT = 55432;
export const START_TIMEOUT_MS = 90_000;
const STOP_GRACE_MS = 40_000;
const PORT_ATTEMPTS_MAX = 4;
const TERMINATE_DEADLINE_MS = 30_000;
/** The election, and a start of Postgres. */
const PROMOTE_DEADLINE_MS = 120_000;
const LINGER_MS = 500;
/** A terminated compute_ctl ends by itself. */
const EXIT_AFTER_TERMINATE_MS = 5_000;
/** compute_ctl ends with this code when a newer compute took the timeline over: starting again would only fight it. */
const EXIT_FENCED = 3;

export interface ComputeRuntime {
  readonly state: ProcessState;
  readonly pid: number;
  readonly error: string;
  readonly logPath: string;
  readonly grpcAddr: string;
  /** Empty: it has no vm-monitor, as it is not scaled. */
  readonly monitorAddr: string;
  readonly pgdata: string;
  /** It follows the primary of its branch. */
  readonly isReplica: boolean;
}

/** What a compute is started on, and as what. */
export interface Place {
  readonly timelineId: string;
  readonly storageName: string;
  readonly isReplica: boolean;
}

const NOT_RUNNING: ComputeRuntime = {
  state: 'stopped',
  pid: 0,
  error: '',
  logPath: '',
  grpcAddr: '',
  monitorAddr: '',
  pgdata: '',
  isReplica: false,
};

export interface ComputeManagerOptions {
  readonly baseDir: string;
  readonly pgBin: string;
  readonly stack: StorageStack;
  readonly runDir: string;
  readonly taken: Set<number>;
  readonly freePorts: boolean;
  readonly log: Logger;
  readonly logPath: (name: string) => string;
  /** Keep a compute_ctl loaded for the next start. */
  readonly keepSpare: boolean;
  /** The control group of a compute that is scaled. */
  readonly groupOf: (name: string) => string;
}

export class ComputeManager {
  private readonly options: ComputeManagerOptions;
  private readonly processes = new Map<string, SupervisedProcess>();
  private readonly pgPorts = new Map<string, number>();
  /** Which compute writes to a timeline, by timeline id. */
  private readonly writers = new Map<string, string>();
  /** Those that were started as replicas and not promoted since. */
  private readonly replicas = new Set<string>();
  private readonly queues = new Map<string, Promise<unknown>>();
  private readonly spare: SpareProcess | null;

  constructor(options: ComputeManagerOptions) {
    this.options = options;
    const logPath = options.logPath('compute-spare');
    const { runDir, log, pgBin } = options;
    const args = ['spare', '--pgbin', join(pgBin, 'postgres')];
    const script = programPath('compute-ctl');
    this.spare = options.keepSpare
      ? new SpareProcess({ script, args, env: childEnv(logPath), logPath, runDir, log })
      : null;
  }

  /** A compute will probably be started. */
  expectStart(): void {
    this.spare?.refill();
  }

  /** One operation at a time for each compute. */
  private serial<T>(name: string, act: () => Promise<T>): Promise<T> {
    const before = this.queues.get(name) ?? Promise.resolve();
    const run = before.then(act, act);
    this.queues.set(
      name,
      run.catch(() => undefined),
    );
    return run;
  }

  runtime(name: string): ComputeRuntime {
    const process = this.processes.get(name);
    if (process === undefined) return NOT_RUNNING;
    const logPath = this.options.logPath(`compute-${name}`);
    return {
      state: process.state,
      pid: process.pid,
      error: process.lastError,
      logPath,
      grpcAddr: process.ready?.grpc ?? '',
      monitorAddr: process.ready?.monitor ?? '',
      pgdata: join(this.options.baseDir, name, 'pgdata'),
      isReplica: this.replicas.has(name),
    };
  }

  private async choosePgPort(entry: ComputeEntry): Promise<number> {
    const { taken } = this.options;
    taken.delete(entry.pgPort);
    const usual = this.options.freePorts ? 0 : DEFAULT_PG_PORT;
    if (!entry.pgPortFixed) return choosePort([entry.pgPort, usual], taken);
    const port = await choosePort([entry.pgPort], taken);
    if (port !== entry.pgPort) {
      taken.delete(port);
      throw new StorageError(
        'precondition',
        `port ${entry.pgPort} of compute "${entry.name}" is taken by another program`,
      );
    }
    return port;
  }

  /** Starts a compute on a timeline and waits until it answers queries; one that runs already is left alone. Returns its port. */
  async start(entry: ComputeEntry, place: Place, timeoutMs: number): Promise<number> {
    const { name } = entry;
    if (!place.isReplica && !this.replicas.has(name)) this.claim(entry, place.timelineId);
    return this.serial(name, async () => {
      const old = this.processes.get(name);
      if (old?.state === 'running') {
        if (place.isReplica && !this.replicas.has(name)) {
          throw new StorageError(
            'precondition',
            `compute "${name}" runs as a primary; stop it first ("neon pg stop ${name}")`,
          );
        }
        return this.pgPorts.get(name) ?? entry.pgPort;
      }
      if (old !== undefined) await old.stop(STOP_GRACE_MS);
      if (place.isReplica) {
        this.forgetWriter(name);
        this.replicas.add(name);
      } else {
        // A stop that came before us gave it away.
        this.claim(entry, place.timelineId);
        this.replicas.delete(name);
      }
      try {
        return await this.launchOnFreePort(entry, place, timeoutMs);
      } catch (error) {
        this.forgetWriter(name);
        this.replicas.delete(name);
        throw error;
      } finally {
        this.expectStart();
      }
    });
  }

  private forgetWriter(name: string): void {
    for (const [timelineId, owner] of this.writers) if (owner === name) this.writers.delete(timelineId);
  }

  /** Makes a replica that runs the primary of its timeline, at the same address. A primary is left alone. */
  promote(entry: ComputeEntry, place: Omit<Place, 'isReplica'>): Promise<void> {
    const { name } = entry;
    return this.serial(name, async () => {
      const process = this.processes.get(name);
      const addr = process?.ready?.grpc;
      if (process?.state !== 'running' || addr === undefined) {
        const advice = `start it with "neon pg start ${name} --replica"`;
        throw new StorageError(
          'precondition',
          `compute "${name}" does not run, and only a running replica is promoted; ${advice}`,
        );
      }
      if (!this.replicas.has(name)) return;
      const before = this.writers.get(place.timelineId);
      // At once, so that nobody starts another primary in between.
      this.writers.set(place.timelineId, name);
      const client = createClient(PromotionServiceClient, addr);
      try {
        // In good order, although the election would end it anyway.
        if (before !== undefined) await this.stop(before, false);
        await callUnary(client, client.promote, {}, { deadlineMs: PROMOTE_DEADLINE_MS });
      } catch (error) {
        this.forgetWriter(name);
        throw error;
      } finally {
        client.close();
      }
      this.replicas.delete(name);
      // What it is when it dies and is started again.
      await this.writeSpec(entry, { ...place, isReplica: false }, this.pgPorts.get(name) ?? entry.pgPort);
    });
  }

  /** Two primaries on one timeline would fence each other for ever: the second is refused here. */
  private claim(entry: ComputeEntry, timelineId: string): void {
    const owner = this.writers.get(timelineId);
    if (owner !== undefined && owner !== entry.name) {
      const state = this.processes.get(owner)?.state ?? 'starting';
      if (state !== 'failed' && state !== 'stopped') {
        const advice = `a branch has one writer; stop it first ("neon pg stop ${owner}"), make a branch, or start this one with --replica`;
        throw new StorageError(
          'precondition',
          `compute "${owner}" runs on branch "${entry.branchName}" already, and ${advice}`,
        );
      }
    }
    this.writers.set(timelineId, entry.name);
  }

  private async launchOnFreePort(entry: ComputeEntry, place: Place, timeoutMs: number): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      const pgPort = await this.choosePgPort(entry);
      try {
        await this.launch(entry, place, pgPort, timeoutMs);
        this.pgPorts.set(entry.name, pgPort);
        return pgPort;
      } catch (error) {
        // Somebody took the port between our look and Postgres' start.
        const again = !entry.pgPortFixed && attempt < PORT_ATTEMPTS_MAX && isPortTaken(errorText(error));
        if (!again) throw error;
      }
    }
  }

  private async launch(entry: ComputeEntry, place: Place, pgPort: number, timeoutMs: number): Promise<void> {
    const dir = join(this.options.baseDir, entry.name);
    // Nothing here is synced: a start would wait for it, and the next daemon throws away what it finds.
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    // Postgres may run as another user than we: it must be able to pass through.
    await chmod(dir, 0o711);
    const specPath = await this.writeSpec(entry, place, pgPort);
    const process = this.makeProcess(entry, dir, specPath, pgPort, timeoutMs);
    this.processes.set(entry.name, process);
    await process.start();
  }

  private async writeSpec(entry: ComputeEntry, place: Place, pgPort: number): Promise<string> {
    const path = join(this.options.baseDir, entry.name, 'spec.json');
    await writeFile(path, JSON.stringify(this.spec(entry, place, pgPort), null, 2), { mode: 0o600 });
    return path;
  }

  private spec(entry: ComputeEntry, place: Place, pgPort: number): Record<string, unknown> {
    const { pageserverPg, pageserverGrpc, safekeepers } = this.options.stack.computeEndpoints(place.storageName);
    return buildComputeSpec({
      name: entry.name,
      tenantId: entry.tenantId,
      timelineId: place.timelineId,
      pgPort,
      pageserverPgAddr: pageserverPg,
      pageserverGrpcAddr: pageserverGrpc,
      safekeeperAddrs: safekeepers,
      settings: entry.settings,
      operationUuid: randomUUID(),
      isReplica: place.isReplica,
    });
  }

  private makeProcess(
    { name, maxCu }: ComputeEntry,
    dir: string,
    specPath: string,
    pgPort: number,
    timeoutMs: number,
  ): SupervisedProcess {
    const { groupOf, log, logPath, pgBin, runDir } = this.options;
    return new SupervisedProcess({
      name: `compute-${name}`,
      script: programPath('compute-ctl'),
      args: () => [
        ...['--pgdata', join(dir, 'pgdata'), '--connstr', computeUrl(pgPort), '--spec-path', specPath],
        ...['--pgbin', join(pgBin, 'postgres'), '--compute-id', name],
        ...['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0', '--log-file', logPath(`compute-${name}`)],
        // Whoever started it is told of a failure when the process ends, so it must not stay.
        ...['--linger-ms', String(LINGER_MS)],
        ...(maxCu > 0 ? ['--autoscaling', '--vm-monitor-addr', '127.0.0.1:0', '--cgroup', groupOf(name)] : []),
      ],
      logPath: logPath(`compute-${name}`),
      runDir,
      log,
      spare: this.spare,
      readyTimeoutMs: timeoutMs,
      restartAfter: (exitCode, wasReady) => wasReady && exitCode !== EXIT_FENCED && exitCode !== 0,
    });
  }

  /** Stops a compute and throws its directory away. Returns where committed WAL ends; INVALID_LSN when that is not known. */
  stop(name: string, immediate: boolean): Promise<Lsn> {
    return this.serial(name, async () => {
      const process = this.processes.get(name);
      if (process === undefined) return INVALID_LSN;
      const flushLsn = immediate ? INVALID_LSN : await this.terminate(name, process);
      await process.stop(STOP_GRACE_MS, immediate ? 'SIGKILL' : 'SIGTERM');
      this.processes.delete(name);
      this.options.taken.delete(this.pgPorts.get(name) ?? 0);
      this.pgPorts.delete(name);
      this.forgetWriter(name);
      this.replicas.delete(name);
      await removeDurable(join(this.options.baseDir, name));
      return flushLsn;
    });
  }

  private async terminate(name: string, process: SupervisedProcess): Promise<Lsn> {
    const addr = process.ready?.grpc;
    if (process.state !== 'running' || addr === undefined) return INVALID_LSN;
    const client = createClient(ComputeServiceClient, addr);
    try {
      const request = { mode: TerminateMode.IMMEDIATE };
      const response = await callUnary(client, client.terminate, request, { deadlineMs: TERMINATE_DEADLINE_MS });
      await process.waitEnded(EXIT_AFTER_TERMINATE_MS);
      return lsnFromWire(response.flushLsn);
    } catch (error) {
      this.options.log.warn(
        { compute: name, reason: errorText(error) },
        'compute did not terminate by request, stopping it by signal',
      );
      return INVALID_LSN;
    } finally {
      client.close();
    }
  }

  /** Directories of computes that an earlier daemon could not stop; nothing in them is needed. */
  async removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.options.baseDir)) await removeDurable(join(this.options.baseDir, name));
  }

  async stopAll(): Promise<void> {
    const stops = [...this.processes.keys()].map((name) => this.stop(name, false));
    await Promise.all([...stops, this.spare?.close()]);
  }
}

/** Connection URL of a compute. */
export function computeUrl(pgPort: number): string {
  return `postgresql://cloud_admin@127.0.0.1:${pgPort}/postgres`;
}
