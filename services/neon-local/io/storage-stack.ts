/**
 * The storage services of a stack as supervised processes: broker first, then safekeepers and page servers together. Each storage has a
 * page server of its own; one that does not start keeps only its own storage from being used, but for the default one.
 */
import { fileURLToPath } from 'node:url';
import { errorText, StorageError } from '#shared/core/errors.js';
import { ensureDir, removeDurable } from '#shared/io/files.js';
import type { Logger } from '#shared/runtime/log.js';
import { DEFAULT_STORAGE } from '../core/catalog-schema.js';
import type { StorageEntry } from '../core/catalog-schema.js';
import { s3Environment } from '../core/s3-place.js';
import { advertisedAddr, pageserverName, planPageserver, planServices, serviceFlags } from '../core/stack.js';
import type { PortName, ServiceSpec } from '../core/stack.js';
import type { StackConfig } from '../core/stack-config.js';
import { choosePort, isPortTaken } from './ports.js';
import type { RepoDir } from './repo-dir.js';
import { SupervisedProcess } from './supervised-process.js';

const READY_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 20_000;
const PORT_ATTEMPTS_MAX = 4;

export function programPath(program: string): string {
  return fileURLToPath(new URL(`../../${program}/main.js`, import.meta.url));
}

interface RunningService {
  readonly spec: ServiceSpec;
  readonly ports: Partial<Record<PortName, number>>;
  readonly process: SupervisedProcess;
}

export class StorageStack {
  private readonly repo: RepoDir;
  private readonly config: StackConfig;
  private readonly log: Logger;
  private readonly running = new Map<string, RunningService>();
  private readonly starting = new Map<string, Promise<void>>();

  constructor(repo: RepoDir, config: StackConfig, log: Logger) {
    this.repo = repo;
    this.config = config;
    this.log = log;
  }

  /** Starts everything; on a failure stops what was started and throws. `taken` holds ports that are spoken for. */
  async start(taken: Set<number>, storages: readonly StorageEntry[]): Promise<void> {
    const specs = planServices(this.config, storages);
    const remembered = await this.repo.ports();
    for (const spec of specs) await this.prepare(spec, remembered, taken);
    try {
      const [broker, ...others] = specs;
      if (broker) await this.startOne(broker.name, taken);
      const failures = await Promise.all(others.map((spec) => this.tryStart(spec, taken)));
      const failed = failures.filter((text) => text !== null);
      if (failed.length > 0) throw new StorageError('unavailable', failed.join('\n'));
    } catch (error) {
      await this.stop();
      throw error;
    }
    await this.savePorts();
  }

  /** Null, or why a service did not start that nothing works without. */
  private async tryStart(spec: ServiceSpec, taken: Set<number>): Promise<string | null> {
    try {
      await this.startOne(spec.name, taken);
      return null;
    } catch (error) {
      if (spec.storage === undefined || spec.storage.name === DEFAULT_STORAGE) return errorText(error);
      this.log.warn({ storage: spec.storage.name, reason: errorText(error) }, 'storage cannot be used');
      return null;
    }
  }

  /** Starts the page server of a storage; one that runs is left alone. */
  startPageserver(storage: StorageEntry, taken: Set<number>): Promise<void> {
    const name = pageserverName(storage.name);
    const underWay = this.starting.get(name);
    if (underWay !== undefined) return underWay;
    // One that died comes back by itself.
    const state = this.running.get(name)?.process.state ?? 'stopped';
    if (state === 'running' || state === 'backoff' || state === 'starting') return Promise.resolve();
    const start = this.startPageserverNow(name, storage, taken).finally(() => this.starting.delete(name));
    this.starting.set(name, start);
    return start;
  }

  private async startPageserverNow(name: string, storage: StorageEntry, taken: Set<number>): Promise<void> {
    const before = this.running.get(name);
    await before?.process.stop(STOP_GRACE_MS);
    // It keeps its ports: computes that run were told of them.
    for (const port of Object.values(before?.ports ?? {})) taken.delete(port);
    await this.prepare(planPageserver(storage), await this.repo.ports(), taken);
    await this.startOne(name, taken);
    await this.savePorts();
  }

  /** Stops the page server of a storage and forgets it, with its copies of layers. */
  async removePageserver(storageName: string): Promise<void> {
    const name = pageserverName(storageName);
    await this.running.get(name)?.process.stop(STOP_GRACE_MS);
    this.running.delete(name);
    await removeDurable(this.repo.dataDir(name));
  }

  /** Address of the page server of a storage. Throws StorageError `unavailable` with the reason when it does not run. */
  pageserverAddr(storageName: string, port: PortName): string {
    const service = this.running.get(pageserverName(storageName));
    if (service === undefined || service.process.state === 'failed') {
      const why = service?.process.lastError ?? 'it is not started';
      const log = this.repo.logPath(pageserverName(storageName));
      throw new StorageError('unavailable', `storage "${storageName}" cannot be used: ${why}; see ${log}`);
    }
    return this.addr(service.spec.name, port);
  }

  private async savePorts(): Promise<void> {
    const remembered = await this.repo.ports();
    const ports = Object.fromEntries(
      [...this.running.values()].flatMap(({ spec, ports: own }) =>
        Object.entries(own).map(([port, value]) => [`${spec.name}.${port}`, value]),
      ),
    );
    await this.repo.savePorts({ ...remembered, ...ports });
  }

  /** Starts a service; when somebody took one of its ports in the meantime, again with others. */
  private async startOne(name: string, taken: Set<number>): Promise<void> {
    const { process, ports } = this.service(name);
    for (let attempt = 1; ; attempt++) {
      try {
        await process.start();
        return;
      } catch (error) {
        if (attempt >= PORT_ATTEMPTS_MAX || !isPortTaken(errorText(error))) throw error;
        this.log.warn({ process: name }, 'a port was taken by somebody else, trying others');
        for (const port of Object.keys(ports) as PortName[]) ports[port] = await choosePort([], taken);
      }
    }
  }

  private async prepare(spec: ServiceSpec, remembered: Record<string, number>, taken: Set<number>): Promise<void> {
    const ports: Partial<Record<PortName, number>> = {};
    for (const [port, usual] of Object.entries(spec.defaultPorts) as Array<[PortName, number]>) {
      const wanted = [remembered[`${spec.name}.${port}`] ?? 0, this.config.freePorts ? 0 : usual];
      ports[port] = await choosePort(wanted, taken);
    }
    const dataDir = this.repo.dataDir(spec.name);
    await ensureDir(dataDir);
    // Safekeepers keep what they take off their disks in the default storage.
    const env = s3Environment(await this.repo.keysOf(spec.storage?.name ?? DEFAULT_STORAGE));
    const process = new SupervisedProcess({
      name: spec.name,
      script: programPath(spec.program),
      args: () =>
        serviceFlags({
          spec,
          ports,
          brokerAddr: this.advertised('storage-broker', 'grpc'),
          dataDir,
          config: this.config,
        }),
      logPath: this.repo.logPath(spec.name),
      runDir: this.repo.runDir,
      env,
      log: this.log,
      readyTimeoutMs: READY_TIMEOUT_MS,
      restartAfter: () => true,
    });
    this.running.set(spec.name, { spec, ports, process });
  }

  private service(name: string): RunningService {
    const service = this.running.get(name);
    if (service === undefined) throw new StorageError('internal', `no service ${name} in this stack`);
    return service;
  }

  addr(name: string, port: PortName): string {
    return `127.0.0.1:${this.service(name).ports[port] ?? 0}`;
  }

  /** Where others than this daemon reach it. */
  advertised(name: string, port: PortName): string {
    return advertisedAddr(this.config, name, port, this.service(name).ports[port]);
  }

  /** What a compute of a storage is told. Throws StorageError `unavailable` when its page server does not run. */
  computeEndpoints(storageName: string): { pageserverPg: string; pageserverGrpc: string; safekeepers: string[] } {
    this.pageserverAddr(storageName, 'pg');
    const pageserver = pageserverName(storageName);
    return {
      pageserverPg: this.advertised(pageserver, 'pg'),
      pageserverGrpc: this.advertised(pageserver, 'grpc'),
      safekeepers: this.names('safekeeper').map((name) => this.advertised(name, 'grpc')),
    };
  }

  safekeeperAddrs(): string[] {
    return this.names('safekeeper').map((name) => this.addr(name, 'grpc'));
  }

  private names(program: string): string[] {
    return [...this.running.values()].filter(({ spec }) => spec.program === program).map(({ spec }) => spec.name);
  }

  services(): ReadonlyArray<{
    spec: ServiceSpec;
    ports: Partial<Record<PortName, number>>;
    process: SupervisedProcess;
  }> {
    return [...this.running.values()];
  }

  /** Page server first, so that it can still receive what safekeepers have; broker last. */
  async stop(): Promise<void> {
    for (const program of ['pageserver', 'safekeeper', 'storage-broker']) {
      await Promise.all(this.names(program).map((name) => this.service(name).process.stop(STOP_GRACE_MS)));
    }
  }
}
