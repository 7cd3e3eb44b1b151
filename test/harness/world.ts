/**
 * A world of its own for programs that use fixed ports, paths and host names: Linux namespaces with loopback only, a root directory put
 * together from the machine's (world.sh), and host names of ours. Everything in it ends with it, and it ends with us. For root.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const SCRIPT = join(import.meta.dirname, 'world.sh');
const UNSHARE = ['--net', '--mount', '--pid', '--fork', '--kill-child'];
const RUN_TIMEOUT_MS = 120_000;
const OUTPUT_BYTES_MAX = 16 << 20;

export interface WorldOptions {
  /** Host name → address of loopback. */
  readonly hosts: Readonly<Record<string, string>>;
  /** Directory whose content goes over the root. */
  readonly seed: string;
}

/** Why there can be no such world here; null when there can. */
export function worldMissing(): string | null {
  if (process.getuid?.() !== 0) return 'namespaces are for root';
  try {
    execFileSync('unshare', [...UNSHARE, 'ip', 'link', 'set', 'lo', 'up'], { stdio: 'pipe' });
    execFileSync('nsenter', ['--version'], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return `no namespaces here: ${String(error)}`;
  }
}

export class World implements AsyncDisposable {
  readonly dir: string;
  readonly #env: Readonly<Record<string, string | undefined>>;
  #holder: ChildProcess | null = null;
  #pid = 0;

  private constructor(dir: string, env: Readonly<Record<string, string | undefined>>) {
    this.dir = dir;
    this.#env = env;
  }

  /** `env`: for everything in it. */
  static async start(options: WorldOptions, env: Readonly<Record<string, string | undefined>>): Promise<World> {
    const world = new World(await mkdtemp(join(tmpdir(), 'neon-world-')), env);
    try {
      await world.#start(options);
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start({ hosts, seed }: WorldOptions): Promise<void> {
    const lines = Object.entries({ localhost: '127.0.0.1', ...hosts }).map(([name, address]) => `${address} ${name}\n`);
    const hostsPath = join(this.dir, 'hosts');
    await writeFile(hostsPath, lines.join(''));
    const root = join(this.dir, 'root');
    await mkdir(root);
    const holder = spawn('unshare', [...UNSHARE, 'sh', SCRIPT, root, hostsPath, seed], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#holder = holder;
    const ready = once(createInterface({ input: holder.stdout }), 'line').then(() => true);
    const isReady = await Promise.race([ready, once(holder, 'exit').then(() => false)]);
    if (!isReady) throw new Error('the world did not come up');
    this.#pid = Number(await readFile(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8'));
  }

  #enter(command: readonly string[]): string[] {
    return ['--target', String(this.#pid), '--net', '--mount', '--pid', '--root', '--wd', ...command];
  }

  /** Runs a command to its end; returns stdout. */
  async run(...command: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)('nsenter', this.#enter(command), {
      env: this.#env,
      timeout: RUN_TIMEOUT_MS,
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    return stdout.trim();
  }

  /** Starts a command; its stdout is a pipe when asked for, else it goes to the log as stderr does. */
  spawn(command: readonly string[], logPath: string, options: SpawnOptions = {}): ChildProcess {
    const log = openSync(logPath, 'a');
    const child = spawn('nsenter', this.#enter(command), {
      env: { ...this.#env, ...options.env },
      stdio: ['ignore', options.pipe === true ? 'pipe' : log, log],
    });
    closeSync(log);
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const holder = this.#holder;
    if (holder !== null && holder.exitCode === null && holder.signalCode === null) {
      const gone = once(holder, 'exit');
      holder.stdin?.end();
      await gone;
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}

export interface SpawnOptions {
  readonly pipe?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}
