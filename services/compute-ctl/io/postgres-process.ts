/**
 * The Postgres child process: start, readiness, stop, and what it logged last.
 *
 * It is started before its data directory is complete and maybe before its configuration is known, and waits at its gates
 * (extension/start-gate.c): for `goOn` or `reconfigure`, then for `open`.
 *
 * It must not outlive compute_ctl, not even one that was killed: a Postgres without its walproposer can commit nothing but holds the
 * port. So the kernel sends it SIGQUIT when we die (setpriv --pdeathsig), and a leftover of an earlier life is found through
 * postmaster.pid and stopped, after a check that the process really works in that data directory.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { watch } from 'node:fs';
import { readFile, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Account } from './account.js';

const POLL_MS = 50;
const PID_FILE = 'postmaster.pid';
const LOG_LINES_KEPT = 20;
const LOG_LINE_CHARS_MAX = 4_000;
const KILL_AFTER_MS = 5_000;
/** The first that is free. */
const GATE_FD = 3;
const CONFIGURATION_IS_FINAL = 'g';
const NEW_CONFIGURATION = 'c';
const DATA_IS_THERE = 'd';
/** Where Debian and others put server binaries, which are not in PATH there. */
const BIN_DIRS = ['/usr/lib/postgresql/15/bin', '/usr/pgsql-15/bin', '/usr/local/pgsql/bin'];

export interface PostgresBinary {
  readonly path: string;
  /** PG_VERSION_NUM, such as 150018. */
  readonly version: number;
}

/** Finds the server and asks for its version. `bin`: a path, or a name to look for in PATH and the usual places. */
export async function findPostgres(bin: string): Promise<PostgresBinary> {
  const dirs = [...(process.env['PATH'] ?? '').split(':').filter((dir) => dir !== ''), ...BIN_DIRS];
  const candidates = bin.includes('/') ? [bin] : dirs.map((dir) => join(dir, bin));
  for (const path of candidates) {
    const output = await promisify(execFile)(path, ['-V']).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'EACCES') return null;
      throw new StorageError('invalid', `"${path} -V" failed`, { cause: error });
    });
    if (output === null) continue;
    const match = /PostgreSQL\)? (\d+)\.(\d+)/.exec(output.stdout);
    if (match === null) throw new StorageError('invalid', `"${path}" is no released Postgres: ${output.stdout.trim()}`);
    // Where links lead to, its other programs lie beside it.
    return { path: await realpath(path), version: Number(match[1]) * 10_000 + Number(match[2]) };
  }
  throw new StorageError('invalid', `no Postgres server "${bin}" found; name it by --pgbin`);
}

export interface PostgresOptions {
  readonly bin: string;
  readonly pgdata: string;
  readonly account: Account | null;
  readonly log: Logger;
}

export interface PostgresExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class PostgresProcess {
  readonly exited: Promise<PostgresExit>;
  /** Null while it runs. */
  exit: PostgresExit | null = null;
  /** It may read its data directory, and soon takes connections. */
  isOpen = false;
  private readonly child: ChildProcess;
  private readonly pgdata: string;
  private readonly lines: string[] = [];

  constructor(options: PostgresOptions) {
    this.pgdata = options.pgdata;
    const { command, args } = commandLine(options);
    const env = { ...process.env, NEON_START_GATE_FD: String(GATE_FD) };
    this.child = spawn(command, args, { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
    // It ended before; `exited` says so.
    this.gate.on('error', () => undefined);
    this.exited = new Promise((resolve) => {
      const done = (exit: PostgresExit): void => {
        this.exit ??= exit;
        this.gate.destroy();
        resolve(this.exit);
      };
      this.child.once('error', (error) => {
        this.keep(String(error));
        done({ code: null, signal: null });
      });
      this.child.once('exit', (code, signal) => done({ code, signal }));
    });
    for (const output of [this.child.stdout, this.child.stderr]) {
      if (output === null) continue;
      createInterface({ input: output }).on('line', (line) => {
        this.keep(line);
        options.log.info({ postgres: line.slice(0, LOG_LINE_CHARS_MAX) }, 'postgres');
      });
    }
  }

  /** postgresql.conf is what it was when this began: it makes its sockets and first processes. */
  goOn(): void {
    this.gate.write(CONFIGURATION_IS_FINAL);
  }

  /** As `goOn`, with another postgresql.conf. False: it cannot do with that one and has ended; another must be started. */
  async reconfigure(): Promise<boolean> {
    const kept = new Promise<null>((resolve) => this.gate.once('data', () => resolve(null)));
    this.gate.write(NEW_CONFIGURATION);
    return (await Promise.race([kept, this.exited])) === null;
  }

  /** The data directory is complete. */
  open(): void {
    this.isOpen = true;
    this.gate.end(DATA_IS_THERE);
  }

  private get gate(): Duplex {
    return this.child.stdio[GATE_FD] as Duplex;
  }

  /** Waits until it takes connections. Throws `unavailable` when it ends before, or after `timeoutMs`. */
  async ready(timeoutMs: number): Promise<void> {
    const path = join(this.pgdata, PID_FILE);
    let changed = Promise.withResolvers<void>();
    const watcher = watch(this.pgdata, (_event, name) => {
      if (name === PID_FILE) changed.resolve();
    });
    // Where changes cannot be watched, the pauses are what is left.
    watcher.on('error', () => undefined);
    try {
      for (const endMs = Date.now() + timeoutMs; Date.now() < endMs;) {
        if (this.exit !== null) throw new StorageError('unavailable', `Postgres did not start: ${this.lastWords()}`);
        // Line 8 is the state, padded with spaces.
        const text = await readFile(path, 'utf8').catch(() => '');
        const state = text.split('\n')[7]?.trim();
        if (state === 'ready' || state === 'standby') return;
        await Promise.race([changed.promise, this.exited, sleep(POLL_MS)]);
        changed = Promise.withResolvers();
      }
    } finally {
      watcher.close();
    }
    throw new StorageError('unavailable', `Postgres did not get ready within ${timeoutMs} ms: ${this.lastWords()}`);
  }

  /**
   * Fast: a shutdown checkpoint, and all WAL confirmed. Immediate: no commit can return any more. One that still waits at a gate ends by
   * itself. Resolves when it has ended.
   */
  async stop(mode: 'fast' | 'immediate', timeoutMs: number = KILL_AFTER_MS): Promise<PostgresExit> {
    if (!this.isOpen) this.gate.destroy();
    else if (this.exit === null) this.child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    const timer = setTimeout(() => {
      if (mode === 'fast') void this.stop('immediate');
      else if (this.exit === null) this.child.kill('SIGKILL');
    }, timeoutMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  /** The newest log lines, for error messages. */
  lastWords(): string {
    return this.lines.length === 0 ? 'it logged nothing' : this.lines.slice(-8).join(' | ');
  }

  private keep(line: string): void {
    this.lines.push(line.slice(0, LOG_LINE_CHARS_MAX));
    if (this.lines.length > LOG_LINES_KEPT) this.lines.shift();
  }
}

/** setpriv changes the account and ties the server's life to ours; it leads to the same process, so that signals reach the server. */
function commandLine(options: PostgresOptions): { command: string; args: string[] } {
  const { account, bin, pgdata } = options;
  const identity = account === null ? [] : [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--init-groups'];
  return { command: 'setpriv', args: [...identity, '--pdeathsig', 'QUIT', '--', bin, '-D', pgdata] };
}

/** Stops a Postgres that still works in `pgdata`, left over from an earlier life. */
export async function stopLeftover(pgdata: string, log: Logger): Promise<void> {
  const text = await readFile(join(pgdata, PID_FILE), 'utf8').catch(() => '');
  const pid = Number(text.split('\n')[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1) return;
  // A postmaster's working directory is its data directory: so a reused process id is not mistaken for it.
  const worksHere = async (): Promise<boolean> => {
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => null);
    return cwd !== null && cwd === (await realpath(pgdata).catch(() => null));
  };
  for (const [signal, waitMs] of [
    ['SIGQUIT', 3_000],
    ['SIGKILL', 2_000],
  ] as const) {
    if (!(await worksHere())) return;
    log.warn({ pid, signal }, 'stopping a Postgres left over in the data directory');
    process.kill(pid, signal);
    for (const endMs = Date.now() + waitMs; Date.now() < endMs && (await worksHere());) await sleep(10);
  }
  if (await worksHere()) throw new StorageError('precondition', `Postgres ${pid} in ${pgdata} does not stop`);
}
