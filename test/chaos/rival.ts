/** A compute that nobody manages: compute_ctl started directly, on a timeline that another compute may be using. */
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { GetStatusResponse } from '#gen/neon/control/v1/control.js';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { createLogger } from '#shared/runtime/log.js';
import { buildComputeSpec } from '../../services/neon-local/core/compute-spec.js';
import { choosePort } from '../../services/neon-local/io/ports.js';
import { SupervisedProcess } from '../../services/neon-local/io/supervised-process.js';
import type { TestStack } from '../harness/stack.js';

const SCRIPT = resolve(import.meta.dirname, '../../build/services/compute-ctl/main.js');
const READY_TIMEOUT_MS = 60_000;

export class Rival {
  readonly name: string;
  /** Null until it has started and when it has ended. */
  private readyUrl: string | null = null;
  private readonly process: SupervisedProcess;
  private readonly dir: string;

  private constructor(name: string, dir: string, process: SupervisedProcess) {
    this.name = name;
    this.dir = dir;
    this.process = process;
  }

  /** Writes its spec; does not start it. */
  static async prepare(stack: TestStack, name: string, status: GetStatusResponse): Promise<Rival> {
    const dir = join(stack.repoDir, 'computes', name);
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    await chmod(dir, 0o711);
    const port = await choosePort([], new Set());
    const specPath = join(dir, 'spec.json');
    await writeFile(specPath, JSON.stringify(specOf(status, name, port)));
    const url = `postgresql://cloud_admin@127.0.0.1:${port}/postgres`;
    const process = new SupervisedProcess({
      name,
      script: SCRIPT,
      args: () => [
        ...['--pgdata', join(dir, 'pgdata'), '--connstr', url, '--spec-path', specPath],
        ...['--pgbin', join(PG_BIN, 'postgres'), '--compute-id', name],
        ...['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'],
      ],
      logPath: join(stack.repoDir, 'logs', `compute-${name}.log`),
      runDir: dir,
      log: createLogger({ service: 'chaos', level: 'fatal' }),
      readyTimeoutMs: READY_TIMEOUT_MS,
      restartAfter: () => false,
    });
    const rival = new Rival(name, dir, process);
    rival.readyUrl = url;
    return rival;
  }

  /** False when it gave up or lost the timeline before it was ready. */
  async start(): Promise<boolean> {
    return this.process.start().then(
      () => true,
      () => false,
    );
  }

  /** Null unless it runs. */
  get url(): string | null {
    return this.process.state === 'running' ? this.readyUrl : null;
  }

  /** As the process said it; empty while it runs. */
  get end(): string {
    return this.process.lastError;
  }

  async kill(): Promise<void> {
    await this.process.stop(5_000, 'SIGKILL');
    await rm(this.dir, { recursive: true, force: true }).catch(() => undefined);
  }
}

function specOf(status: GetStatusResponse, name: string, pgPort: number): Record<string, unknown> {
  const service = (wanted: string) => {
    const found = status.services.find((entry) => entry.name === wanted);
    if (found === undefined) throw new Error(`no service ${wanted}`);
    return found;
  };
  const [compute] = status.computes;
  if (compute === undefined) throw new Error('the stack has no compute');
  return buildComputeSpec({
    name,
    tenantId: compute.tenantId,
    timelineId: compute.timelineId,
    pgPort,
    pageserverPgAddr: service('pageserver').pgAddr,
    pageserverGrpcAddr: service('pageserver').grpcAddr,
    safekeeperAddrs: status.services
      .filter(({ name: each }) => each.startsWith('safekeeper-'))
      .map((each) => each.grpcAddr),
    settings: {},
    operationUuid: crypto.randomUUID(),
  });
}
