/**
 * A whole stack of real processes for tests: made in a temporary directory with the built services, driven through the `neon` command
 * as a user would. The daemon is our child and ends with us, whatever happens; so does everything below it.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import pg from 'pg';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { Control } from './control.js';
import { unexpectedLogLines } from './log-check.js';

const run = promisify(execFile);
const BUILD = resolve(import.meta.dirname, '../../build');
const CLI = join(BUILD, 'services/neon-local/cli.js');
const DAEMON = join(BUILD, 'services/neon-local/main.js');
const OUTPUT_BYTES_MAX = 256 << 20;
/** A server with 1 MB of buffers on a machine with 25 other processes answers late. */
const CONNECT_TIMEOUT_MS = 60_000;
/** So many lines tell what is wrong. */
const LOG_LINES_SHOWN = 20;

export interface ServiceInfo {
  readonly name: string;
  readonly state: string;
  readonly pid: number;
  readonly grpcAddr: string;
  readonly httpAddr: string;
  readonly pgAddr: string;
  readonly restartCount: number;
}

export interface ComputeInfo {
  readonly name: string;
  readonly branchName: string;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly state: string;
  readonly url: string;
  readonly pid: number;
  readonly error: string;
  readonly grpcAddr: string;
}

export interface StackStatus {
  readonly restUrl: string;
  readonly connectAddr: string;
  readonly pid: number;
  readonly services: readonly ServiceInfo[];
  readonly computes: readonly ComputeInfo[];
}

export interface StackOptions {
  readonly safekeepers?: number;
  /** Further options of `neon init`. */
  readonly init?: readonly string[];
  /** Without a tenant: false. */
  readonly tenant?: boolean;
  /** Object store URL; default: a directory of the stack. */
  readonly remoteStorage?: string;
  /** Further environment of the services; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/** Polls until `check` gives a value; fails with `what` after the time is up. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  check: () => Promise<T | null | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== null && value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await sleep(50);
  }
}

export class TestStack implements AsyncDisposable {
  readonly repoDir: string;
  private readonly root: string;
  private readonly env: Readonly<Record<string, string | undefined>>;
  private daemon: ChildProcess | null = null;
  private hasFaults = false;

  private constructor(root: string, env: Readonly<Record<string, string | undefined>>) {
    this.root = root;
    this.env = env;
    this.repoDir = join(root, 'neon');
  }

  /** Makes and starts a stack with a tenant and branch `main`. */
  static async start(options: StackOptions = {}): Promise<TestStack> {
    const root = await mkdtemp(join(tmpdir(), 'neon-stack-'));
    await chmod(root, 0o711);
    const stack = new TestStack(root, options.env ?? {});
    try {
      const { safekeepers = 3, remoteStorage } = options;
      const storage = remoteStorage === undefined ? [] : ['--remote-storage', remoteStorage];
      await stack.neon(
        'init',
        '--free-ports',
        '--safekeepers',
        String(safekeepers),
        ...storage,
        ...(options.init ?? []),
      );
      await stack.startDaemon();
      if (options.tenant !== false) await stack.neon('tenant', 'create');
    } catch (error) {
      await stack[Symbol.asyncDispose]().catch(() => undefined);
      throw error;
    }
    return stack;
  }

  async startDaemon(): Promise<void> {
    const log = openSync(join(this.root, 'daemon.log'), 'a');
    const daemon = spawn(process.execPath, [DAEMON, '--repo-dir', this.repoDir], {
      stdio: ['pipe', 'pipe', log],
      env: { ...process.env, ...this.env, NEON_EXIT_WITH_PARENT: '1' },
      // As a shell would start it, and so that it can be sent what a terminal sends.
      detached: true,
    });
    this.daemon = daemon;
    const lines = createInterface({ input: daemon.stdout ?? process.stdin });
    const ready = once(lines, 'line').then(() => 'ready' as const);
    const outcome = await Promise.race([ready, once(daemon, 'exit').then(() => 'ended' as const)]);
    if (outcome === 'ended') throw new Error(`the daemon ended:\n${await this.logs()}`);
  }

  /** Of the daemon, from which all other processes of the stack descend. */
  get pid(): number {
    return this.daemon?.pid ?? 0;
  }

  /** Stops the daemon as Ctrl-C would; the data stays. */
  async stopDaemon(): Promise<void> {
    const daemon = this.daemon;
    if (daemon === null || daemon.exitCode !== null) return;
    daemon.kill('SIGTERM');
    await once(daemon, 'exit');
    this.daemon = null;
  }

  /** Ctrl-C in a terminal: the signal goes to the daemon's whole process group. */
  async interrupt(): Promise<void> {
    const daemon = this.daemon;
    if (daemon === null || daemon.exitCode !== null) return;
    process.kill(-this.pid, 'SIGINT');
    await once(daemon, 'exit');
    this.daemon = null;
  }

  /** SIGKILLs the daemon, as a crash would. Its children end by themselves. */
  async killDaemon(): Promise<void> {
    const daemon = this.daemon;
    if (daemon === null || daemon.exitCode !== null) return;
    this.expectFaults();
    daemon.kill('SIGKILL');
    await once(daemon, 'exit');
    this.daemon = null;
  }

  /** Starts another daemon in the same directory; rejects with what it says. */
  async secondDaemon(): Promise<void> {
    await run(process.execPath, [DAEMON, '--repo-dir', this.repoDir]);
  }

  /** Runs the `neon` command; returns stdout. */
  async neon(...args: string[]): Promise<string> {
    return this.neonWith('', ...args);
  }

  /** The same with something on its standard input. */
  async neonWith(input: string, ...args: string[]): Promise<string> {
    const running = run(process.execPath, [CLI, '--repo-dir', this.repoDir, ...args], {
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    running.child.stdin?.end(input);
    return (await running).stdout.trim();
  }

  async status(): Promise<StackStatus> {
    using control = await Control.open(this.repoDir);
    return await control.status();
  }

  async service(name: string): Promise<ServiceInfo> {
    const found = (await this.status()).services.find((service) => service.name === name);
    if (!found) throw new Error(`no service ${name}`);
    return found;
  }

  async compute(name: string): Promise<ComputeInfo> {
    const found = (await this.status()).computes.find((compute) => compute.name === name);
    if (!found) throw new Error(`no compute ${name}`);
    return found;
  }

  /** From here on services may complain of others that were killed, held or fenced; see log-check.ts. */
  expectFaults(): void {
    this.hasFaults = true;
  }

  /** SIGKILLs a service. The daemon starts it again. */
  async killService(name: string): Promise<void> {
    this.expectFaults();
    process.kill((await this.service(name)).pid, 'SIGKILL');
  }

  /** SIGKILLs a service and deletes everything that it had on its disk, before the daemon starts it again. */
  async loseDisk(name: string): Promise<void> {
    const { pid, restartCount } = await this.service(name);
    this.daemon?.kill('SIGSTOP');
    try {
      process.kill(pid, 'SIGKILL');
      // A zombie until the daemon goes on: then it has no open files any more.
      await until(`${name} to be dead`, 10_000, async () => {
        const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
        return /\) [ZX]/.test(stat);
      });
      const dir = join(this.repoDir, 'data', name);
      for (const entry of await readdir(dir)) await rm(join(dir, entry), { recursive: true });
    } finally {
      this.daemon?.kill('SIGCONT');
    }
    await this.waitRestarted(name, restartCount + 1);
  }

  /** Resolves when a killed service runs again. */
  async waitRestarted(name: string, restartCount: number): Promise<ServiceInfo> {
    return until(`${name} to run again`, 60_000, async () => {
      const service = await this.service(name);
      return service.state === 'running' && service.restartCount >= restartCount ? service : null;
    });
  }

  /** Registers and starts a compute; returns its URL. */
  async startCompute(
    name: string,
    options: { branch?: string; settings?: Record<string, string> } = {},
  ): Promise<string> {
    using control = await Control.open(this.repoDir);
    await control.createCompute(name, options.settings ?? {}, options.branch);
    return await control.startCompute(name);
  }

  /** One that was stopped; returns its URL. */
  async startAgain(name: string): Promise<string> {
    using control = await Control.open(this.repoDir);
    return await control.startCompute(name);
  }

  async stopCompute(name: string, mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    using control = await Control.open(this.repoDir);
    await control.stopCompute(name, mode === 'immediate');
  }

  /** All logs, for the message of a failed test. */
  async logs(): Promise<string> {
    const tails = (await this.logPaths()).map(
      async (path) => `--- ${path}\n${(await readFile(path, 'utf8').catch(() => '')).slice(-3000)}`,
    );
    return (await Promise.all(tails)).join('\n');
  }

  async logPaths(): Promise<string[]> {
    const dir = join(this.repoDir, 'logs');
    const names = (await readdir(dir).catch(() => [])).filter((name) => name.endsWith('.log'));
    return [join(this.root, 'daemon.log'), ...names.map((name) => join(dir, name))];
  }

  /** Stops everything and removes it. Rejects when a service has logged what it should not have. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopDaemon();
    const unexpected = await unexpectedLogLines(await this.logPaths(), this.hasFaults);
    await this.remove();
    if (unexpected.length > 0)
      throw new Error(`unexpected in the logs of services:\n${unexpected.slice(0, LOG_LINES_SHOWN).join('\n')}`);
  }

  private async remove(): Promise<void> {
    if (process.env['NEON_KEEP'] === '1') process.stderr.write(`kept ${this.root}\n`);
    else await rm(this.root, { recursive: true, force: true });
  }
}

/** Runs one of Postgres' client programs. */
export async function pgTool(tool: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(join(PG_BIN, tool), args, {
    maxBuffer: OUTPUT_BYTES_MAX,
    env: { ...process.env, PGCONNECT_TIMEOUT: '10' },
  });
  return stdout;
}

/** Runs `act` with an open connection. */
export async function withClient<T>(url: string, act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  // A server that is killed on purpose breaks connections; what matters is what the query says.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Rows of the last statement of a query as arrays of texts. */
export async function query(url: string, sql: string): Promise<string[][]> {
  return withClient(url, async (client) => {
    const results: unknown = await client.query({ text: sql, rowMode: 'array' });
    const last = (Array.isArray(results) ? results.at(-1) : results) as pg.QueryArrayResult<unknown[]>;
    return last.rows.map((row) => row.map(String));
  });
}

/** The first column of the first row. */
export async function value(url: string, sql: string): Promise<string> {
  return (await query(url, sql))[0]?.[0] ?? '';
}
