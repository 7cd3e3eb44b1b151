/**
 * One process that is loaded in advance and waits on its standard input for the arguments that it will go on with (compute_ctl's `spare`).
 * Whoever needs a process takes it, and the next is started a while later, when the start that took it is over.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { once } from 'node:events';
import type { Logger } from '#shared/runtime/log.js';
import { removePidFile, writePidFile } from './pid-files.js';

/** A start of a compute is mostly over by then. */
const REFILL_AFTER_MS = 1_500;
/** It ends with its input, and only has to tidy up. */
const KILL_AFTER_MS = 2_000;
const NAME = 'compute-spare';

export interface SpareOptions {
  readonly script: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of what it says before it has a log of its own. */
  readonly logPath: string;
  readonly runDir: string;
  readonly log: Logger;
}

export class SpareProcess {
  private readonly options: SpareOptions;
  private child: ChildProcess | null = null;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;

  constructor(options: SpareOptions) {
    this.options = options;
  }

  /** Has one started soon, unless there is one. Called again, the wait begins anew. */
  refill(): void {
    if (this.closed || this.child !== null) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.start();
    }, REFILL_AFTER_MS);
    this.timer.unref();
  }

  /** The process, which now has this name and goes on with these arguments; null: there is none, start another. */
  take(name: string, args: readonly string[]): ChildProcess | null {
    const { child } = this;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return null;
    this.child = null;
    writePidFile(this.options.runDir, name, child.pid);
    child.stdin?.write(`${JSON.stringify({ argv: args })}\n`);
    removePidFile(this.options.runDir, NAME);
    return child;
  }

  async close(): Promise<void> {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    const { child } = this;
    this.child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.stdin?.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await ended;
    clearTimeout(timer);
    removePidFile(this.options.runDir, NAME);
  }

  private start(): void {
    const { script, args, env, logPath, runDir, log } = this.options;
    const logFile = openSync(logPath, 'a', 0o600);
    // In a process group of its own, as all children: see SupervisedProcess.
    const child = spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'pipe', logFile], env, detached: true });
    closeSync(logFile);
    // It may be gone when it gets its arguments; whoever took it sees its end.
    child.stdin?.on('error', () => undefined);
    child.on('error', (error) => log.warn({ reason: error.message }, 'could not start a spare process'));
    if (child.pid === undefined) return;
    writePidFile(runDir, NAME, child.pid);
    this.child = child;
    child.once('exit', (code, signal) => {
      if (this.child !== child) return;
      this.child = null;
      removePidFile(runDir, NAME);
      log.warn({ code, signal }, 'a spare process ended');
    });
  }
}
