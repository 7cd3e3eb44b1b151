/**
 * The network of a stack: a proxy before each endpoint that computes and services are told of (`neon init --advertise`), and the faults
 * done to it. Who connects is known by process, so that the same safekeeper can be there for computes and gone for the page server.
 */
import { readdir, readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { RepoDir } from '../../services/neon-local/io/repo-dir.js';
import { ownerOf } from '../harness/socket-owner.js';
import { TcpProxy } from '../harness/tcp-proxy.js';
import type { Weather } from '../harness/tcp-proxy.js';
import type { Links, NetworkFault } from './schedule.js';

const CLEAR: Weather = { kind: 'clear' };
/** The test itself looks at services through the proxies. */
const TEST = 'test';
const COMPUTE = 'compute';

interface Disturbance {
  readonly fault: NetworkFault;
  readonly timer: NodeJS.Timeout;
}

export class Network implements AsyncDisposable {
  private readonly proxies = new Map<string, TcpProxy>();
  private readonly disturbances: Disturbance[] = [];
  private ports: Readonly<Record<string, number>> = {};
  private runDir: string | null = null;

  /** Before the stack is made; until `attach` nobody is reached. */
  static async open(safekeeperCount: number): Promise<Network> {
    const network = new Network();
    const safekeepers = Array.from({ length: safekeeperCount }, (_, at) => `safekeeper-${at + 1}.grpc`);
    for (const endpoint of ['storage-broker.grpc', 'pageserver.grpc', 'pageserver.pg', ...safekeepers]) {
      const proxy = await TcpProxy.listen({
        targetPort: () => network.ports[endpoint] ?? null,
        clientOf: (socket) => network.clientOf(socket),
        weatherFor: (client) => network.weather(client, serviceOf(endpoint)),
      });
      network.proxies.set(endpoint, proxy);
    }
    return network;
  }

  /** Options of `neon init` that lead everybody through the proxies. */
  get initOptions(): string[] {
    return [...this.proxies].flatMap(([endpoint, { port }]) => ['--advertise', `${endpoint}=127.0.0.1:${port}`]);
  }

  /** The services run. */
  async attach(repoDir: string): Promise<void> {
    const repo = new RepoDir(repoDir);
    this.ports = await repo.ports();
    this.runDir = repo.runDir;
  }

  /** Ends by itself. */
  disturb(fault: NetworkFault): void {
    const disturbance = { fault, timer: setTimeout(() => this.end(disturbance), fault.forMs) };
    this.disturbances.push(disturbance);
    this.refresh();
  }

  /** Ends all disturbances; what was to be forgotten is. */
  heal(): void {
    for (const disturbance of [...this.disturbances]) this.end(disturbance);
  }

  /** gRPC connections through which nothing has passed for so long though both or one of the sides believe in them. */
  deadSince(forMs: number): string[] {
    const nowMs = performance.now();
    const found: string[] = [];
    for (const [endpoint, { passages }] of this.proxies) {
      for (const { client, forgottenAtMs, openSides } of passages) {
        if (forgottenAtMs === null || nowMs - forgottenAtMs < forMs) continue;
        const holders = openSides.map((side) => (side === 'up' ? client : serviceOf(endpoint)));
        if (holders.length > 0) found.push(`${client} to ${endpoint}, held by ${holders.join(' and ')}`);
      }
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { timer } of this.disturbances.splice(0)) clearTimeout(timer);
    for (const proxy of this.proxies.values()) await proxy[Symbol.asyncDispose]();
  }

  private end(disturbance: Disturbance): void {
    const at = this.disturbances.indexOf(disturbance);
    if (at < 0) return;
    clearTimeout(disturbance.timer);
    const { fault } = disturbance;
    if ('forgets' in fault && fault.forgets) this.forget(fault.links);
    this.disturbances.splice(at, 1);
    this.refresh();
  }

  private forget(links: Links): void {
    for (const [endpoint, proxy] of this.proxies) {
      // What notices a dead connection there is the kernel, which this proxy cannot deceive: see README.md.
      if (endpoint.endsWith('.pg')) continue;
      for (const passage of proxy.passages) {
        if (isOn(links, passage.client, serviceOf(endpoint))) passage.forget();
      }
    }
  }

  private refresh(): void {
    for (const proxy of this.proxies.values()) proxy.refresh();
  }

  /** What was done last counts. */
  private weather(client: string, service: string): Weather {
    const last = this.disturbances.findLast(({ fault }) => isOn(fault.links, client, service));
    return last === undefined ? CLEAR : weatherOf(last.fault);
  }

  private async clientOf(socket: Socket): Promise<string> {
    const pids = new Map([[process.pid, TEST]]);
    for (const file of this.runDir === null ? [] : await readdir(this.runDir)) {
      const pid = Number((await readFile(`${this.runDir}/${file}`, 'utf8').catch(() => '')).split(' ')[0]);
      if (!file.startsWith('compute-') && pid > 0) pids.set(pid, basename(file, '.pid'));
    }
    return (await ownerOf(socket, pids)) ?? COMPUTE;
  }
}

function serviceOf(endpoint: string): string {
  return endpoint.slice(0, endpoint.indexOf('.'));
}

function isOn({ from, to }: Links, client: string, service: string): boolean {
  if (client === TEST || !to.includes(service)) return false;
  return from === 'anybody' || (from === 'computes') === (client === COMPUTE);
}

function weatherOf(fault: NetworkFault): Weather {
  switch (fault.kind) {
    case 'cut-network':
      return { kind: 'cut' };
    case 'silence-network':
      return { kind: 'silent', directions: ['up', 'down'] };
    case 'one-way-network':
      return { kind: 'silent', directions: [fault.lost === 'requests' ? 'up' : 'down'] };
    case 'slow-network':
      return { kind: 'slow', delayMs: fault.delayMs };
  }
}
