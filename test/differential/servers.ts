/**
 * The two servers that are compared: a compute of a whole stack, with hardly any memory, and a plain PostgreSQL. Both get the same
 * settings but for those that make a compute a compute.
 */
import { join } from 'node:path';
import { startPlain } from '../harness/plain.js';
import type { Plain } from '../harness/plain.js';
import { TestStack } from '../harness/stack.js';

const COMPUTE = 'main';

/**
 * Small memory everywhere, so that pages, sorts and temporary tables spill. Nothing acts by the clock; that goes for the background
 * writer too, since VACUUM leaves out a page that somebody has pinned.
 */
export const SMALL_SETTINGS: Readonly<Record<string, string>> = {
  shared_buffers: '1MB',
  temp_buffers: '800kB',
  work_mem: '256kB',
  maintenance_work_mem: '1MB',
  max_prepared_transactions: '20',
  autovacuum: 'off',
  jit: 'off',
  checkpoint_timeout: '1h',
  max_wal_size: '4GB',
  TimeZone: 'UTC',
  full_page_writes: 'off',
  track_commit_timestamp: 'on',
  bgwriter_lru_maxpages: '0',
};
export const SETTINGS_OF_COMPUTES: Readonly<Record<string, string>> = { 'neon.file_cache_size_limit': '0' };

export type SideName = 'plain' | 'compute';

export interface Side {
  readonly name: SideName;
  readonly host: string;
  readonly port: string;
  readonly user: string;
}

export interface PairOptions {
  readonly safekeepers?: number;
  /** Added to both servers' settings. */
  readonly settings?: Readonly<Record<string, string>>;
}

export class ServerPair implements AsyncDisposable {
  readonly stack: TestStack;
  readonly plain: Plain;
  private computeSide: Side;

  private constructor(stack: TestStack, plain: Plain, computeUrl: string) {
    this.stack = stack;
    this.plain = plain;
    this.computeSide = sideOf('compute', computeUrl);
  }

  static async start(options: PairOptions = {}): Promise<ServerPair> {
    const settings = { ...SMALL_SETTINGS, ...options.settings };
    const stack = await TestStack.start({ safekeepers: options.safekeepers ?? 1 });
    try {
      const url = await stack.startCompute(COMPUTE, { settings: { ...SETTINGS_OF_COMPUTES, ...settings } });
      const plain = await startPlain(Object.entries(settings).map(([name, value]) => `${name} = '${value}'`));
      return new ServerPair(stack, plain, url);
    } catch (error) {
      const logs = await stack.logs();
      await stack[Symbol.asyncDispose]();
      throw new Error(`the servers did not start:\n${logs}`, { cause: error });
    }
  }

  /** What is expected first, what is judged second. */
  get sides(): readonly [Side, Side] {
    return [sideOf('plain', this.plain.url), this.computeSide];
  }

  /** Where the compute keeps pages of relations. */
  get computePagesDir(): string {
    return join(this.stack.repoDir, 'computes', COMPUTE, 'pgdata', 'base');
  }

  /**
   * Throws the compute away and starts a new one; `immediate` is SIGKILL. The plain server crashes and recovers in both cases, since
   * that is what stock PostgreSQL calls a start from WAL alone: unlogged tables are empty, sequences skip what they had logged ahead.
   */
  async restart(mode: 'fast' | 'immediate'): Promise<void> {
    await this.stack.stopCompute(COMPUTE, mode);
    this.computeSide = sideOf('compute', await this.stack.startAgain(COMPUTE));
    await this.plain.cluster.kill();
    await this.plain.cluster.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack[Symbol.asyncDispose]();
    await this.plain[Symbol.asyncDispose]();
  }
}

function sideOf(name: SideName, url: string): Side {
  const { hostname, port, username } = new URL(url);
  return { name, host: hostname, port, user: username };
}

export function urlOf(side: Side, database: string): string {
  return `postgresql://${side.user}@${side.host}:${side.port}/${database}`;
}
