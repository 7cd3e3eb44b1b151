/**
 * Real processes, as built, for tests of compute_ctl: a broker, safekeepers, a page server, and computes on one timeline. All lies in one
 * temporary directory, listens on free ports of 127.0.0.1, and ends with the test, because each process watches its stdin.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { parseReadyLine } from '#shared/runtime/ready.js';
import type { ReadyLine } from '#shared/runtime/ready.js';

const ROOT = join(import.meta.dirname, '..', '..', '..');
export const INITDB_IMAGE = join(ROOT, 'build', 'initdb-15.tar');
/** Long, for machines that do much else. */
const READY_MS = 180_000;

export class Service {
  readonly child: ChildProcess;
  readonly logPath: string;
  ready: ReadyLine | null = null;

  constructor(name: string, args: readonly string[], dir: string, env: Readonly<Record<string, string>> = {}) {
    this.logPath = join(dir, `${name}-${Date.now()}.log`);
    const log = openSync(this.logPath, 'w');
    const service = name.replace(/-?\d+$/, '');
    const script = join(ROOT, 'build/services', service, 'main.js');
    this.child = spawn(process.execPath, [script, ...args], {
      cwd: ROOT,
      env: { ...process.env, NEON_EXIT_WITH_PARENT: '1', ...env },
      stdio: ['pipe', 'pipe', log],
    });
    closeSync(log);
  }

  /** Resolves when it serves; rejects with the end of its log when it ends before. */
  async started(): Promise<ReadyLine> {
    const lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream });
    const timer = setTimeout(() => this.child.kill('SIGKILL'), READY_MS);
    const ready = await new Promise<ReadyLine>((resolve, reject) => {
      lines.on('line', (line) => {
        const parsed = parseReadyLine(line);
        if (parsed !== null) resolve(parsed);
      });
      this.child.once('exit', (code) =>
        reject(new Error(`ended with ${code ?? 'a signal'}: ${this.log().slice(-3_000)}`)),
      );
    });
    clearTimeout(timer);
    this.ready = ready;
    return ready;
  }

  log(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async exited(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return this.child.exitCode;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export interface ComputeOptions {
  readonly name: string;
  readonly port: number;
  readonly settings?: Readonly<Record<string, string>>;
  readonly spec?: Readonly<Record<string, unknown>>;
  /** Where the spec comes from, as flags; default: a file that is written for it. */
  readonly source?: readonly string[];
  /** Further flags; they win over the usual ones. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class Cluster {
  readonly dir = mkdtempSync(join(tmpdir(), 'compute-test-'));
  readonly tenantId = randomBytes(16).toString('hex');
  readonly timelineId = randomBytes(16).toString('hex');
  readonly safekeepers: Service[] = [];
  readonly safekeeperPorts: number[] = [];
  broker: Service | null = null;
  pageserver: Service | null = null;
  private readonly services: Service[] = [];

  /** `timelineOnSafekeepers: false`: no timeline is made there; the first compute does it. */
  static async start(options: { safekeepers: number; timelineOnSafekeepers?: boolean }): Promise<Cluster> {
    const cluster = new Cluster();
    chmodSync(cluster.dir, 0o711);
    cluster.broker = cluster.spawn('storage-broker', ['--listen-grpc', '127.0.0.1:0']);
    const { grpc } = await cluster.broker.started();
    const broker = grpc ?? '';
    for (let index = 0; index < options.safekeepers; index++) cluster.safekeeperPorts.push(await freePort());
    await Promise.all([
      ...cluster.safekeeperPorts.map((_, index) => cluster.startSafekeeper(index, broker)),
      cluster.startPageserver(broker),
    ]);
    await cluster.createTimeline(options.timelineOnSafekeepers ?? true);
    return cluster;
  }

  private spawn(name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Service {
    const service = new Service(name, args, this.dir, env);
    this.services.push(service);
    return service;
  }

  async startSafekeeper(index: number, broker = this.broker?.ready?.grpc ?? ''): Promise<Service> {
    const dir = join(this.dir, `sk${index}`);
    mkdirSync(dir, { recursive: true });
    const addr = `127.0.0.1:${this.safekeeperPorts[index] ?? 0}`;
    const args = ['-D', dir, '--id', String(index + 1), '--listen-grpc', addr, '--listen-http', '127.0.0.1:0'];
    const service = this.spawn(`safekeeper-${index}`, [...args, '--broker-endpoint', broker]);
    this.safekeepers[index] = service;
    await service.started();
    return service;
  }

  async startPageserver(broker = this.broker?.ready?.grpc ?? ''): Promise<Service> {
    const dir = join(this.dir, 'ps');
    const store = join(this.dir, 'store');
    mkdirSync(store, { recursive: true });
    const listen = ['--listen-pg', '127.0.0.1:0', '--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'];
    const storage = ['--remote-storage', `file://${store}`, '--initdb-image', INITDB_IMAGE];
    this.pageserver = this.spawn('pageserver', ['-D', dir, ...listen, ...storage, '--broker-endpoint', broker]);
    await this.pageserver.started();
    return this.pageserver;
  }

  private async createTimeline(onSafekeepers: boolean): Promise<void> {
    const client = createClient(ManagementServiceClient, this.pageserver?.ready?.grpc ?? '');
    const { tenantId, timelineId } = this;
    await callUnary(client, client.createTenant, { tenantId });
    const mode = { $case: 'bootstrap' as const, value: { pgMajorVersion: 15 } };
    const { timeline } = await callUnary(
      client,
      client.createTimeline,
      { ttid: { tenantId, timelineId }, mode },
      { deadlineMs: 60_000 },
    );
    client.close();
    for (const port of onSafekeepers ? this.safekeeperPorts : []) {
      const safekeeper = createClient(SafekeeperServiceClient, `127.0.0.1:${port}`);
      await callUnary(safekeeper, safekeeper.createTimeline, {
        ttid: { tenantId, timelineId },
        startLsn: timeline?.initdbLsn ?? 0n,
        pgVersion: 150000,
        systemId: timeline?.systemId ?? 0n,
        walSegSize: timeline?.walSegSize ?? 0,
        mconf: undefined,
      });
      safekeeper.close();
    }
  }

  async safekeeperStatus(index: number): Promise<TimelineStatus> {
    const client = createClient(SafekeeperServiceClient, `127.0.0.1:${this.safekeeperPorts[index] ?? 0}`);
    const { tenantId, timelineId } = this;
    const { status } = await callUnary(client, client.getTimelineStatus, { ttid: { tenantId, timelineId } });
    client.close();
    if (status === undefined) throw new Error('no status');
    return status;
  }

  /** A spec for a compute on this timeline. */
  spec(options: ComputeOptions): Record<string, unknown> {
    const settings = { shared_buffers: '16MB', port: String(options.port), ...options.settings };
    return {
      tenant_id: this.tenantId,
      timeline_id: this.timelineId,
      pageserver_connstring: `postgresql://none@${this.pageserver?.ready?.pg ?? ''}`,
      safekeeper_connstrings: this.safekeeperPorts.map((sk) => `127.0.0.1:${sk}`),
      cluster: { settings: Object.entries(settings).map(([key, value]) => ({ name: key, value })) },
      ...options.spec,
    };
  }

  /** The file that `compute` writes its spec to. */
  specPath(name: string): string {
    return join(this.dir, name, 'spec.json');
  }

  /** Starts compute_ctl; `started()` of the result resolves when queries are answered. */
  compute(options: ComputeOptions): Service {
    const { name, port } = options;
    const dir = join(this.dir, name);
    mkdirSync(dir, { recursive: true });
    if (options.source === undefined) writeFileSync(this.specPath(name), JSON.stringify(this.spec(options)));
    const source = options.source ?? ['-S', this.specPath(name)];
    const grpc = ['--pageserver-grpc', this.pageserver?.ready?.grpc ?? ''];
    const listen = ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'];
    const pgbin = ['-b', join(PG_BIN, 'postgres')];
    const brief = ['--linger-ms', '200', '--terminate-delay-ms', '200', '--refresh-retry-ms', '300'];
    const args = ['-D', join(dir, 'pgdata'), ...source, '-C', connstr(port), ...pgbin, ...grpc, ...listen, ...brief];
    return this.spawn('compute-ctl', [...args, ...(options.args ?? [])], options.env ?? {});
  }

  /** Kills what still runs and removes the directory. */
  async stop(): Promise<void> {
    for (const service of this.services) service.kill('SIGKILL');
    await Promise.all(this.services.map((service) => service.exited()));
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

export function connstr(port: number): string {
  return `postgresql://cloud_admin@127.0.0.1:${port}/postgres`;
}
