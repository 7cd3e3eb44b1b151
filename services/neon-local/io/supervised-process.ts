/**
 * One child process: started, watched, started again with back-off when it dies, stopped with SIGTERM and, after a grace, SIGKILL.
 * Its stdin is a pipe from us, so that it ends even when we are killed; its stdout must bring one ready line; its stderr goes to a log.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { StorageError } from '#shared/core/errors.js';
import { EXIT_WITH_PARENT_ENV } from '#shared/runtime/parent.js';
import { parseReadyLine } from '#shared/runtime/ready.js';
import type { ReadyLine } from '#shared/runtime/ready.js';
import type { Logger } from '#shared/runtime/log.js';
import { afterDeath, NEVER_DIED } from '../core/restart-policy.js';
import { removePidFile, writePidFile } from './pid-files.js';
import type { SpareProcess } from './spare-process.js';

export type ProcessState = 'starting' | 'running' | 'backoff' | 'stopped' | 'failed';

export interface ProcessOptions {
  readonly name: string;
  /** Script run by this Node. */
  readonly script: string;
  /** Made anew for each start. */
  readonly args: () => readonly string[];
  readonly logPath: string;
  /** Pid files go here. */
  readonly runDir: string;
  /** On top of our own environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  /** Taken instead of a new process when there is one; it must know `env` already. */
  readonly spare?: SpareProcess | null;
  readonly readyTimeoutMs: number;
  /** Whether an end with this exit code (null = signal) shall be followed by a new start. */
  readonly restartAfter: (exitCode: number | null, wasReady: boolean) => boolean;
}

/** Of a process that ends with us. Node keeps compiled code beside the logs, so that a second start need not compile it again. */
export function childEnv(logPath: string, env: ProcessOptions['env'] = {}): NodeJS.ProcessEnv {
  const cache = join(dirname(logPath), '.compiled');
  return { NODE_COMPILE_CACHE: cache, ...process.env, ...env, [EXIT_WITH_PARENT_ENV]: '1' };
}

/** The end of a log, for error messages. */
const LOG_TAIL_BYTES = 2_000;

async function logTail(path: string): Promise<string> {
  const handle = await open(path, 'r').catch(() => null);
  if (handle === null) return '';
  try {
    const { size } = await handle.stat();
    const bytes = Buffer.alloc(Math.min(size, LOG_TAIL_BYTES));
    await handle.read(bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString('utf8').trim().split('\n').slice(-6).join('\n');
  } finally {
    await handle.close();
  }
}

export class SupervisedProcess {
  readonly name: string;
  state: ProcessState = 'stopped';
  restartCount = 0;
  /** What the process announced; null until it did. */
  ready: ReadyLine | null = null;
  /** Why it is not running, when it should be. */
  lastError = '';
  private readonly options: ProcessOptions;
  private child: ChildProcess | null = null;
  private ended: Promise<void> = Promise.resolve();
  private restarts = NEVER_DIED;
  private stopping = false;
  private timer: NodeJS.Timeout | null = null;

  constructor(options: ProcessOptions) {
    this.options = options;
    this.name = options.name;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Starts and waits for the ready line. A start that fails is not repeated: the error tells why, with the end of the log. */
  async start(): Promise<ReadyLine> {
    this.stopping = false;
    this.lastError = '';
    return this.launch();
  }

  private async launch(): Promise<ReadyLine> {
    const { options } = this;
    this.state = 'starting';
    this.ready = null;
    const startedAt = Date.now();
    const args = options.args();
    const child = options.spare?.take(this.name, args) ?? this.spawn(args);
    this.child = child;
    // Writing never happens; the pipe only tells the child that we live.
    child.stdin?.on('error', () => undefined);
    const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    this.ended = exited.then(
      ([code, signal]) => this.onExit(code, signal, startedAt),
      (error: Error) => {
        this.lastError = error.message;
        this.state = 'failed';
        this.child = null;
      },
    );
    const ready = await this.waitReady(child);
    this.ready = ready;
    this.state = 'running';
    options.log.info({ process: this.name, pid: child.pid, tookMs: Date.now() - startedAt }, 'started process');
    return ready;
  }

  private spawn(args: readonly string[]): ChildProcess {
    const { script, logPath, runDir, env } = this.options;
    const logFile = openSync(logPath, 'a', 0o600);
    const child = spawn(process.execPath, [script, ...args], {
      stdio: ['pipe', 'pipe', logFile],
      env: childEnv(logPath, env),
      // Ctrl-C in a terminal goes to all of a process group: who stops first is ours to say.
      detached: true,
    });
    closeSync(logFile);
    if (child.pid !== undefined) writePidFile(runDir, this.name, child.pid);
    return child;
  }

  private async waitReady(child: ChildProcess): Promise<ReadyLine> {
    const announced = new Promise<ReadyLine>((resolve) => {
      if (child.stdout === null) return;
      createInterface({ input: child.stdout }).on('line', (line) => {
        const ready = parseReadyLine(line);
        if (ready !== null) resolve(ready);
      });
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), this.options.readyTimeoutMs);
    });
    const outcome = await Promise.race([announced, this.ended.then(() => 'ended' as const), late]);
    clearTimeout(timer);
    if (typeof outcome !== 'string') return outcome;
    if (outcome === 'late') {
      this.lastError = `not ready after ${this.options.readyTimeoutMs} ms`;
      await this.stop(2_000);
      this.state = 'failed';
    }
    const tail = await logTail(this.options.logPath);
    throw new StorageError(
      'unavailable',
      `${this.name} did not start (${this.lastError}); its log ${this.options.logPath} ends:\n${tail}`,
    );
  }

  private onExit(code: number | null, signal: NodeJS.Signals | null, startedAt: number): void {
    const { log, restartAfter } = this.options;
    const wasReady = this.state === 'running';
    removePidFile(this.options.runDir, this.name);
    this.child = null;
    this.lastError = signal === null ? `exit code ${code}` : `killed by ${signal}`;
    if (this.stopping || (wasReady && code === 0 && !restartAfter(code, wasReady))) {
      this.state = 'stopped';
      this.lastError = '';
      return;
    }
    log.warn({ process: this.name, code, signal }, 'process died');
    if (!wasReady && this.restartCount === 0 && this.restarts.quickDeathCount === 0) {
      this.state = 'failed';
      return;
    }
    if (!restartAfter(code, wasReady)) {
      this.state = 'failed';
      return;
    }
    const next = afterDeath(this.restarts, Date.now() - startedAt);
    this.restarts = next.state;
    this.state = 'backoff';
    this.timer = setTimeout(() => {
      this.timer = null;
      this.restartCount += 1;
      this.launch().catch((err: unknown) => log.error({ process: this.name, err }, 'restart failed'));
    }, next.delayMs);
  }

  /** Waits for a process that was asked to end by other means; it will not be started again. False when it still runs. */
  async waitEnded(limitMs: number): Promise<boolean> {
    this.stopping = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limitMs);
    });
    await Promise.race([this.ended, late]);
    clearTimeout(timer);
    return this.child === null;
  }

  /** Resolves when the process has ended and will not come back. */
  async stop(graceMs: number, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.stopping = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const child = this.child;
    if (child !== null) {
      child.kill(signal);
      const killer = setTimeout(() => {
        this.options.log.warn({ process: this.name, graceMs }, 'process did not stop in time, killing it');
        child.kill('SIGKILL');
      }, graceMs);
      await this.ended;
      clearTimeout(killer);
    }
    this.state = 'stopped';
    this.ready = null;
    this.restarts = NEVER_DIED;
  }
}
