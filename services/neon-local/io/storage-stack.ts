/** The storage services of a stack as supervised processes: broker first, then safekeepers and page server together. */
import { fileURLToPath } from 'node:url';
import { StorageError } from '#shared/core/errors.js';
import { ensureDir } from '#shared/io/files.js';
import type { Logger } from '#shared/runtime/log.js';
import { planServices, serviceFlags } from '../core/stack.js';
import type { PortName, ServiceSpec, StackConfig } from '../core/stack.js';
import { choosePort } from './ports.js';
import type { RepoDir } from './repo-dir.js';
import { SupervisedProcess } from './supervised-process.js';

const READY_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 20_000;

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

  constructor(repo: RepoDir, config: StackConfig, log: Logger) {
    this.repo = repo;
    this.config = config;
    this.log = log;
  }

  /** Starts everything; on a failure stops what was started and throws. `taken` holds ports that are spoken for. */
  async start(taken: Set<number>): Promise<void> {
    const specs = planServices(this.config);
    const remembered = await this.repo.ports();
    for (const spec of specs) await this.prepare(spec, remembered, taken);
    const ports = Object.fromEntries(
      [...this.running.values()].flatMap(({ spec, ports: own }) =>
        Object.entries(own).map(([port, value]) => [`${spec.name}.${port}`, value]),
      ),
    );
    await this.repo.savePorts({ ...remembered, ...ports });
    try {
      const [broker, ...others] = specs;
      if (broker) await this.service(broker.name).process.start();
      const results = await Promise.allSettled(others.map((spec) => this.service(spec.name).process.start()));
      const failed = results.filter((result) => result.status === 'rejected').map((result) => String(result.reason));
      if (failed.length > 0) throw new StorageError('unavailable', failed.join('\n'));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  private async prepare(spec: ServiceSpec, remembered: Record<string, number>, taken: Set<number>): Promise<void> {
    const ports: Partial<Record<PortName, number>> = {};
    for (const [port, usual] of Object.entries(spec.defaultPorts) as Array<[PortName, number]>) {
      ports[port] = await choosePort([remembered[`${spec.name}.${port}`] ?? 0, usual], taken);
    }
    const dataDir = this.repo.dataDir(spec.name);
    await ensureDir(dataDir);
    const process = new SupervisedProcess({
      name: spec.name,
      script: programPath(spec.program),
      args: () =>
        serviceFlags({ spec, ports, brokerAddr: this.addr('storage-broker', 'grpc'), dataDir, config: this.config }),
      logPath: this.repo.logPath(spec.name),
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
