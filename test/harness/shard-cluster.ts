/**
 * For tests: one tenant on several page servers. Real processes in a temporary directory: a broker, a safekeeper, page servers that share
 * an object store, and computes. All end with the test, because each watches its stdin.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { ShardServiceClient } from '#gen/neon/pageserver/v1/shard.js';
import { SafekeeperServiceClient } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { idFromBytes, parseTtid } from '#shared/core/ids.js';
import { lsnFromWire } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import { shardId } from '#shared/core/shard.js';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { connstr, freePort, INITDB_IMAGE, Service } from '../../services/compute-ctl/testing/cluster.js';
import { ShardReader } from './shard-reader.js';
import { until } from './stack.js';
import { StorageReader } from './storage-reader.js';

const DEADLINE = { deadlineMs: 120_000 };
const PG_VERSION_NUM = 150_000;

interface PageserverClients {
  readonly tenants: ManagementServiceClient;
  readonly shards: ShardServiceClient;
}

interface PageServerPorts {
  readonly pg: number;
  readonly grpc: number;
}

export interface ShardClusterOptions {
  readonly pageservers: number;
  /** 0: the tenant is not split. */
  readonly shards: number;
  readonly stripeBlocks: number;
}

export class ShardCluster implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'shards-'));
  readonly ttid: TenantTimelineId = parseTtid({
    tenantId: idFromBytes(randomBytes(16)),
    timelineId: idFromBytes(randomBytes(16)),
  });
  readonly pageservers: Service[] = [];
  private readonly ports: PageServerPorts[] = [];
  private readonly services: Service[] = [];
  private readonly stripeBlocks: number;
  private brokerAddr = '';
  private safekeeperPort = 0;
  /** Page server of each shard. */
  private places: number[] = [];

  private constructor(stripeBlocks: number) {
    this.stripeBlocks = stripeBlocks;
    chmodSync(this.dir, 0o711);
  }

  static async start(options: ShardClusterOptions): Promise<ShardCluster> {
    const cluster = new ShardCluster(options.stripeBlocks);
    try {
      const broker = cluster.spawn('storage-broker', ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0']);
      cluster.brokerAddr = (await broker.started()).grpc ?? '';
      cluster.safekeeperPort = await freePort();
      await cluster.startSafekeeper();
      for (let index = 0; index < options.pageservers; index++) {
        cluster.ports.push({ pg: await freePort(), grpc: await freePort() });
        await cluster.startPageserver(index);
      }
      await cluster.createTenant(options.shards);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  private spawn(name: string, args: readonly string[]): Service {
    const service = new Service(name, args, this.dir);
    this.services.push(service);
    return service;
  }

  private async startSafekeeper(): Promise<void> {
    const dir = join(this.dir, 'sk');
    mkdirSync(dir, { recursive: true });
    const listen = ['--listen-grpc', `127.0.0.1:${this.safekeeperPort}`, '--listen-http', '127.0.0.1:0'];
    await this.spawn('safekeeper-1', [
      ...['-D', dir, '--id', '1', ...listen, '--broker-endpoint', this.brokerAddr],
    ]).started();
  }

  /** Also again, after it was killed: on the same ports. */
  async startPageserver(index: number): Promise<void> {
    const store = join(this.dir, 'store');
    mkdirSync(store, { recursive: true });
    const { pg, grpc } = this.ports[index]!;
    const listen = [
      '--listen-pg',
      `127.0.0.1:${pg}`,
      '--listen-grpc',
      `127.0.0.1:${grpc}`,
      '--listen-http',
      '127.0.0.1:0',
    ];
    const storage = ['--remote-storage', `file://${store}`, '--initdb-image', INITDB_IMAGE];
    const id = ['--id', String(index + 1), '-D', join(this.dir, `ps${index}`)];
    const service = this.spawn(`pageserver-${index}`, [
      ...id,
      ...listen,
      ...storage,
      '--broker-endpoint',
      this.brokerAddr,
    ]);
    this.pageservers[index] = service;
    await service.started();
  }

  private async onPageserver<T>(index: number, act: (clients: PageserverClients) => Promise<T>): Promise<T> {
    const addr = `127.0.0.1:${this.ports[index]!.grpc}`;
    const clients = {
      tenants: createClient(ManagementServiceClient, addr),
      shards: createClient(ShardServiceClient, addr),
    };
    try {
      return await act(clients);
    } finally {
      clients.tenants.close();
      clients.shards.close();
    }
  }

  private nameOf(shard: number): TenantTimelineId {
    return {
      ...this.ttid,
      tenantId: shardId(this.ttid.tenantId, shard, this.places.length > 1 ? this.places.length : 0),
    };
  }

  private async createTenant(shards: number): Promise<void> {
    this.places = Array.from({ length: Math.max(1, shards) }, (_, shard) => shard % this.ports.length);
    let first: TimelineInfo | undefined;
    for (const [shard, index] of this.places.entries()) {
      const ttid = this.nameOf(shard);
      const shardParameters = { count: 0, stripeSize: this.stripeBlocks };
      await this.onPageserver(index, ({ shards: client }) =>
        callUnary(client, client.createShards, { tenantId: ttid.tenantId, shardParameters }),
      );
      const mode = { $case: 'bootstrap' as const, value: { pgMajorVersion: 0 } };
      const { timeline } = await this.onPageserver(index, ({ tenants: client }) =>
        callUnary(client, client.createTimeline, { ttid, mode }, DEADLINE),
      );
      first ??= timeline;
    }
    await this.createOnSafekeeper(first);
  }

  private async createOnSafekeeper(timeline: TimelineInfo | undefined): Promise<void> {
    if (timeline === undefined) throw new Error('no timeline');
    const client = createClient(SafekeeperServiceClient, `127.0.0.1:${this.safekeeperPort}`);
    await callUnary(client, client.createTimeline, {
      ttid: { ...this.ttid },
      startLsn: timeline.initdbLsn,
      pgVersion: PG_VERSION_NUM,
      systemId: timeline.systemId,
      walSegSize: timeline.walSegSize,
      mconf: undefined,
    });
    client.close();
  }

  /** Splits the tenant and spreads its shards over the page servers. */
  async split(shards: number): Promise<void> {
    const request = { tenantId: this.ttid.tenantId, shardCount: shards, stripeSize: this.stripeBlocks };
    await this.onPageserver(0, ({ shards: client }) => callUnary(client, client.splitTenant, request, DEADLINE));
    this.places = Array.from({ length: shards }, (_, shard) => shard % this.ports.length);
    for (const [shard, index] of this.places.entries()) {
      const { tenantId } = this.nameOf(shard);
      if (index === 0) continue;
      await this.onPageserver(0, ({ shards: client }) =>
        callUnary(client, client.releaseTenant, { tenantId }, DEADLINE),
      );
      await this.onPageserver(index, ({ tenants: client }) =>
        callUnary(client, client.attachTenant, { tenantId, generation: 0 }, DEADLINE),
      );
    }
  }

  reader(): StorageReader {
    const addrs = this.places.map((index) => `127.0.0.1:${this.ports[index]!.grpc}`);
    if (addrs.length === 1) return new StorageReader(addrs[0]!, this.ttid);
    return new ShardReader(addrs, this.ttid, this.stripeBlocks);
  }

  /** libpq addresses of the page servers by shard, with the shards' names. */
  shardAddrs(): { addr: string; ttid: TenantTimelineId }[] {
    return this.places.map((index, shard) => ({
      addr: `127.0.0.1:${this.ports[index]!.pg}`,
      ttid: this.nameOf(shard),
    }));
  }

  spec(port: number, settings: Readonly<Record<string, string>> = {}): Record<string, unknown> {
    const count = this.places.length;
    const hex = (value: number) => value.toString(16).padStart(2, '0');
    const entry = (index: number) => ({
      id: index + 1,
      libpq_url: `postgresql://none@127.0.0.1:${this.ports[index]!.pg}`,
      grpc_url: `grpc://127.0.0.1:${this.ports[index]!.grpc}`,
    });
    const shards = this.places.map((index, shard) => [
      count === 1 ? '0000' : hex(shard) + hex(count),
      { pageservers: [entry(index)] },
    ]);
    const all = { shared_buffers: '2MB', port: String(port), ...settings };
    return {
      format_version: 1.0,
      tenant_id: this.ttid.tenantId,
      timeline_id: this.ttid.timelineId,
      pageserver_connection_info: {
        shard_count: count === 1 ? 0 : count,
        stripe_size: this.stripeBlocks,
        shards: Object.fromEntries(shards) as Record<string, unknown>,
      },
      safekeeper_connstrings: [`127.0.0.1:${this.safekeeperPort}`],
      cluster: { settings: Object.entries(all).map(([name, value]) => ({ name, value })) },
    };
  }

  /** Starts a compute and waits until it answers. */
  async startCompute(name: string, settings: Readonly<Record<string, string>> = {}): Promise<ShardCompute> {
    const port = await freePort();
    const dir = join(this.dir, name);
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'spec.json'), JSON.stringify(this.spec(port, settings)));
    const listen = ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'];
    const args = ['-D', join(dir, 'pgdata'), '-S', join(dir, 'spec.json'), '-C', connstr(port), ...listen];
    const service = this.spawn('compute-ctl', [...args, '-b', join(PG_BIN, 'postgres')]);
    const ready = await service.started();
    return { service, url: connstr(port), port, httpAddr: ready.http ?? '', settings };
  }

  /** Tells a running compute where the shards are now. */
  async reconfigure(compute: ShardCompute): Promise<void> {
    const body = JSON.stringify({ spec: this.spec(compute.port, compute.settings) });
    const response = await fetch(`http://${compute.httpAddr}/configure`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    if (!response.ok) throw new Error(`/configure: ${response.status} ${await response.text()}`);
  }

  /** Where WAL ends on the safekeeper, and its directory there. Nobody may write. */
  async endOfWal(): Promise<{ end: Lsn; walDirs: string[] }> {
    const client = createClient(SafekeeperServiceClient, `127.0.0.1:${this.safekeeperPort}`);
    const { status } = await callUnary(client, client.getTimelineStatus, { ttid: { ...this.ttid } });
    client.close();
    const end = lsnFromWire(status?.flushLsn ?? 0n);
    return { end, walDirs: [join(this.dir, 'sk', this.ttid.tenantId, this.ttid.timelineId)] };
  }

  logs(): string {
    return this.services.map((service) => `--- ${service.logPath}\n${service.log().slice(-3000)}`).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const service of this.services) service.kill('SIGKILL');
    await Promise.all(this.services.map((service) => service.exited()));
    await until('the directory to be free', 30_000, () => {
      rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
      return Promise.resolve(true);
    });
  }
}

export interface ShardCompute {
  readonly service: Service;
  readonly url: string;
  readonly port: number;
  readonly httpAddr: string;
  readonly settings: Readonly<Record<string, string>>;
}
