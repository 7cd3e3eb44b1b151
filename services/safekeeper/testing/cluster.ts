/** For tests: safekeepers and a broker in this process, on free ports and temporary directories. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseTenantId, parseTimelineId, type TenantTimelineId } from '#shared/core/ids.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { silentLogger } from '#shared/runtime/log.js';
import { lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { SafekeeperServiceClient, type TimelineStatus } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { readConfig } from '../config.js';
import { startSafekeeper, type Overrides, type Safekeeper } from '../context.js';
import { PG_VERSION } from './scripted-proposer.js';

export const TTID: TenantTimelineId = {
  tenantId: parseTenantId('a1'.repeat(16)),
  timelineId: parseTimelineId('b2'.repeat(16)),
};
export const SYSTEM_ID = 7_300_000_000_000_000_001n;
export const SEG_SIZE = 1 << 20;

export interface Node {
  readonly id: number;
  readonly dir: string;
  safekeeper: Safekeeper;
  client: SafekeeperServiceClient;
}

export class TestCluster {
  readonly nodes: Node[] = [];
  private readonly root: string;
  private readonly brokerAddr: string;
  /** More flags for all of them. */
  private flags: readonly string[] = [];

  private constructor(root: string, brokerAddr: string) {
    this.root = root;
    this.brokerAddr = brokerAddr;
  }

  /** With an object store in a directory, and everything done at once. */
  static async withStore(count: number, brokerAddr: string, flags: readonly string[] = []): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(path.join(tmpdir(), 'safekeeper-test-')), brokerAddr);
    const quick = ['--upkeep-interval-ms', '50', '--peer-lag-bytes-max', '0'];
    cluster.flags = ['--remote-storage', cluster.storeDir, ...quick, ...flags];
    for (let id = 1; id <= count; id++) await cluster.add(id);
    return cluster;
  }

  get storeDir(): string {
    return path.join(this.root, 'store');
  }

  async add(id: number, overrides: Overrides = {}): Promise<void> {
    const dir = path.join(this.root, `sk${id}`);
    this.nodes.push({ id, dir, ...(await this.launch(id, dir, overrides)) });
  }

  /** Without a broker address the safekeepers look for one that is not there. */
  static async start(count: number, brokerAddr = '127.0.0.1:1', overrides: Overrides = {}): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(path.join(tmpdir(), 'safekeeper-test-')), brokerAddr);
    for (let id = 1; id <= count; id++) await cluster.add(id, overrides);
    return cluster;
  }

  node(index: number): Node {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  async restart(index: number, overrides: Overrides = {}): Promise<void> {
    await this.stopNode(index);
    await this.relaunch(index, overrides);
  }

  /** Starts a node that was stopped. */
  async relaunch(index: number, overrides: Overrides = {}): Promise<void> {
    const node = this.node(index);
    Object.assign(node, await this.launch(node.id, node.dir, overrides));
  }

  async stopNode(index: number): Promise<void> {
    const node = this.node(index);
    node.client.close();
    await node.safekeeper.stop();
  }

  async create(startLsn: Lsn, segSize = SEG_SIZE): Promise<void> {
    const request = {
      ttid: TTID,
      startLsn: lsnToWire(startLsn),
      pgVersion: PG_VERSION,
      systemId: SYSTEM_ID,
      walSegSize: segSize,
      mconf: undefined,
    };
    for (const { client } of this.nodes) await callUnary(client, client.createTimeline, request);
  }

  async status(index: number): Promise<TimelineStatus> {
    const { client } = this.node(index);
    const { status } = await callUnary(client, client.getTimelineStatus, { ttid: TTID });
    if (status === undefined) throw new Error('no status');
    return status;
  }

  timelineDir(index: number): string {
    return path.join(this.node(index).dir, TTID.tenantId, TTID.timelineId);
  }

  async stop(): Promise<void> {
    for (const index of this.nodes.keys()) await this.stopNode(index);
    await rm(this.root, { recursive: true, force: true });
  }

  private async launch(
    id: number,
    dir: string,
    overrides: Overrides,
  ): Promise<{ safekeeper: Safekeeper; client: SafekeeperServiceClient }> {
    const flags = ['-D', dir, '--id', String(id), '--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0'];
    const config = readConfig([...flags, ...this.flags, '--broker-endpoint', this.brokerAddr], {});
    const safekeeper = await startSafekeeper(config, { log: silentLogger, ...overrides });
    return { safekeeper, client: createClient(SafekeeperServiceClient, safekeeper.grpcAddr) };
  }
}
