/**
 * A real PostgreSQL cluster for tests: made by initdb in a temporary folder, reached by a unix socket (or a TCP port on request),
 * gone after destroy(). Binaries are taken from $PG_BIN, else /usr/lib/postgresql/15/bin. As root, everything that Postgres
 * refuses to do as root runs as the user `postgres`.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { appendFileSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { chmod, chown, lchown, mkdir, open, readdir } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

export const PG_BIN = process.env['PG_BIN'] ?? '/usr/lib/postgresql/15/bin';

const OUTPUT_BYTES_MAX = 1024 * 1024 * 1024;
const START_TIMEOUT_MS = 30_000;
const POLL_MS = 10;

export interface TempClusterOptions {
  /** Lines for postgresql.conf, such as "wal_level = logical". */
  readonly config?: readonly string[];
  readonly initdbArgs?: readonly string[];
  /** Superuser; `postgres` by default. */
  readonly user?: string;
  /** Also listen on a free port of 127.0.0.1. */
  readonly tcp?: boolean;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
}

type StopMode = 'smart' | 'fast' | 'immediate';
const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/** Ids to run servers under; null when this process need not change them. */
const SERVER_IDS = process.getuid?.() === 0 ? passwdIds('postgres') : null;

/**
 * Leftovers of a test run that was broken off, however it was: a shell waits for the end of its input, which comes when this process
 * is gone, then stops the server and removes the folder. A process is the server only if it works in the data directory.
 */
const CLEAN_UP = `
  trap '' INT TERM HUP; read -r _
  pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
  runs() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; }
  if runs "$1"; then
    kill -QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do runs "$1" || break; sleep 0.5; done
  fi
  rm -rf "$1"`;

function watchOver(root: string): ChildProcess {
  const watcher = spawn('sh', ['-c', CLEAN_UP, 'sh', root], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  watcher.on('error', () => undefined);
  watcher.stdin?.on('error', () => undefined);
  watcher.unref();
  // A pipe to a child is a socket: it must not keep this process alive either.
  (watcher.stdin as Socket | null)?.unref();
  return watcher;
}

export class TempCluster {
  /** Everything of this cluster lies in here: data, socket, log. */
  readonly root: string;
  readonly dataDir: string;
  readonly socketDir: string;
  readonly logFile: string;
  readonly user: string;
  /** Of the socket, and of TCP when asked for. */
  readonly port: number;
  private readonly watcher: ChildProcess;
  private server: ChildProcess | null = null;
  private exited: Promise<void> = Promise.resolve();

  private constructor(root: string, user: string, port: number) {
    this.root = root;
    this.user = user;
    this.port = port;
    this.dataDir = path.join(root, 'data');
    this.socketDir = path.join(root, 'socket');
    this.logFile = path.join(root, 'log');
    this.watcher = watchOver(root);
  }

  /** Runs initdb; does not start. */
  static async create(options: TempClusterOptions = {}): Promise<TempCluster> {
    const cluster = await TempCluster.empty(options);
    const locale = ['--locale=C.UTF-8', '-E', 'UTF8', '-A', 'trust', '-U', cluster.user, '--no-sync'];
    await cluster.run('initdb', ['-D', cluster.dataDir, ...locale, ...(options.initdbArgs ?? [])]);
    cluster.configure(options.config ?? []);
    return cluster;
  }

  /** A cluster whose data directory the caller fills (then gives away with `own`). It does not exist yet. */
  static async empty(options: TempClusterOptions = {}): Promise<TempCluster> {
    const root = mkdtempSync(path.join(tmpdir(), 'neon-pg-'));
    await chmod(root, 0o755);
    const port = options.tcp === true ? await freePort() : 5432;
    const cluster = new TempCluster(root, options.user ?? 'postgres', port);
    await mkdir(cluster.socketDir);
    await ownTree(root);
    cluster.settings = [
      `unix_socket_directories = '${cluster.socketDir}'`,
      `listen_addresses = '${options.tcp === true ? '127.0.0.1' : ''}'`,
      `port = ${port}`,
      'fsync = off',
    ];
    return cluster;
  }

  /** A second cluster with a copy of this one's data directory and its settings. This one should be stopped. */
  async clone(options: TempClusterOptions = {}): Promise<TempCluster> {
    const copy = await TempCluster.empty({ user: this.user, ...options });
    await promisify(execFile)('cp', ['-a', this.dataDir, copy.dataDir]);
    copy.configure(options.config ?? []);
    return copy;
  }

  private settings: string[] = [];

  /** Appends to postgresql.conf: the cluster's own socket settings, then the lines. Takes effect at the next start. */
  configure(lines: readonly string[]): void {
    appendFileSync(path.join(this.dataDir, 'postgresql.conf'), [...this.settings, ...lines, ''].join('\n'));
  }

  /** Gives the data directory to the server's user and sets the mode that it insists on. */
  async own(): Promise<void> {
    await ownTree(this.dataDir);
    await chmod(this.dataDir, 0o700);
  }

  /** Resolves when sessions are accepted. Rejects with the end of the log when the server gives up. */
  async start(args: readonly string[] = []): Promise<void> {
    if (this.server !== null) throw new Error('the cluster is running already');
    const log = await open(this.logFile, 'a');
    const server = spawn(path.join(PG_BIN, 'postgres'), ['-D', this.dataDir, ...args], {
      stdio: ['ignore', log.fd, log.fd],
      cwd: this.root,
      ...(SERVER_IDS ?? {}),
    });
    this.server = server;
    // Before anything is awaited: a server that ends at once must not go unnoticed.
    this.exited = new Promise((resolve) => {
      const gone = (): void => {
        this.server = null;
        resolve();
      };
      server.once('exit', gone);
      server.once('error', gone);
    });
    await log.close();
    for (const until = Date.now() + START_TIMEOUT_MS; !this.ready(); await sleep(POLL_MS)) {
      if (this.server === null) throw new Error(`postgres did not start:\n${this.log().slice(-4000)}`);
      if (Date.now() > until) {
        await this.kill();
        throw new Error(`postgres did not become ready:\n${this.log().slice(-4000)}`);
      }
    }
  }

  get running(): boolean {
    return this.server !== null;
  }

  /** Process id of the postmaster; null when stopped. */
  get pid(): number | null {
    return this.server?.pid ?? null;
  }

  /** `immediate` leaves the data directory as a crash does, without the danger of processes that outlive it. */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    this.server?.kill(STOP_SIGNALS[mode]);
    await this.exited;
  }

  /** SIGKILL to every process of the server. */
  async kill(): Promise<void> {
    const pid = this.server?.pid;
    if (pid === undefined) return;
    const children = childrenOf(pid);
    for (const id of [pid, ...children]) {
      try {
        process.kill(id, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    await this.exited;
    while (children.some(exists)) await sleep(POLL_MS);
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Rows as psql -At prints them: fields separated by |, rows by newlines. The first error ends it and rejects. */
  async psql(sql: string, database = 'postgres'): Promise<string> {
    const args = ['-XAtq', '-v', 'ON_ERROR_STOP=1', ...this.connectArgs(), '-d', database, '-f', '-'];
    const { stdout } = await run('psql', args, { input: sql });
    return stdout.trimEnd();
  }

  connectArgs(): string[] {
    return ['-h', this.socketDir, '-p', String(this.port), '-U', this.user];
  }

  /** For the npm package `pg`. */
  connection(database = 'postgres'): { host: string; port: number; user: string; database: string } {
    return { host: this.socketDir, port: this.port, user: this.user, database };
  }

  /** Runs a PostgreSQL program as the server's user. Rejects with its stderr when it fails. */
  run(program: string, args: readonly string[], input?: string): Promise<RunResult> {
    return run(program, args, { asServer: true, cwd: this.root, ...(input === undefined ? {} : { input }) });
  }

  /** Names of the segment files in pg_wal, in order. */
  async walFiles(): Promise<string[]> {
    const names = await readdir(path.join(this.dataDir, 'pg_wal'));
    return names.filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
  }

  async destroy(): Promise<void> {
    await this.kill();
    rmSync(this.root, { recursive: true, force: true });
    this.watcher.stdin?.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  /** The postmaster writes its state to line 8 of postmaster.pid. */
  private ready(): boolean {
    try {
      const lines = readFileSync(path.join(this.dataDir, 'postmaster.pid'), 'utf8').split('\n');
      return lines[0] === String(this.server?.pid) && lines[7]?.trim() === 'ready';
    } catch {
      return false;
    }
  }
}

function run(
  program: string,
  args: readonly string[],
  options: { asServer?: boolean; cwd?: string; input?: string },
): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const ids = options.asServer === true ? (SERVER_IDS ?? {}) : {};
    const spawnOptions = { maxBuffer: OUTPUT_BYTES_MAX, cwd: options.cwd ?? tmpdir(), ...ids };
    const child = execFile(path.join(PG_BIN, program), args, spawnOptions, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} failed: ${stderr || error.message}`));
      else resolve({ stdout, stderr });
    });
    // The program may end before it has read all: its exit code tells.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

function passwdIds(user: string): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${user}:`));
  const [, , uid, gid] = (line ?? '').split(':');
  if (uid === undefined || gid === undefined) throw new Error(`there is no user ${user} to run Postgres under`);
  return { uid: Number(uid), gid: Number(gid) };
}

async function ownTree(dir: string): Promise<void> {
  if (SERVER_IDS === null) return;
  const { uid, gid } = SERVER_IDS;
  await chown(dir, uid, gid);
  for (const entry of await readdir(dir, { recursive: true })) await lchown(path.join(dir, entry), uid, gid);
}

/** Gives one file to the server's user; for tests that write into a data directory. */
export function ownFile(file: string): void {
  if (SERVER_IDS !== null) chownSync(file, SERVER_IDS.uid, SERVER_IDS.gid);
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((id) => parentOf(id) === pid);
}

/** Fields of /proc/PID/stat behind the command: state, parent, …; null when there is no such process. */
function processFields(pid: number): string[] | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}

function parentOf(pid: number): number {
  return Number(processFields(pid)?.[1]);
}

/** A zombie that init has not collected yet holds nothing any more. */
function exists(pid: number): boolean {
  const state = processFields(pid)?.[0];
  return state !== undefined && state !== 'Z';
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
