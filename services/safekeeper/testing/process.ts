/** For tests: a safekeeper as a real process, so that it can be killed. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseReadyLine, type ReadyLine } from '#shared/runtime/ready.js';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

export class SafekeeperProcess {
  readonly ready: ReadyLine;
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess, ready: ReadyLine) {
    this.child = child;
    this.ready = ready;
  }

  /** `logPath`: where its standard error goes; it can be profiled then. */
  static async start(
    dir: string,
    flags: readonly string[] = [],
    { logPath }: { logPath?: string } = {},
  ): Promise<SafekeeperProcess> {
    const listen = ['--listen-grpc', '127.0.0.1:0', '--listen-http', '127.0.0.1:0', '--broker-endpoint', '127.0.0.1:1'];
    const args = ['--conditions=source', '--import', 'tsx', MAIN, '-D', dir, '--id', '1', '--log-level', 'error'];
    const log = logPath === undefined ? null : openSync(logPath, 'a');
    const child = spawn(process.execPath, [...args, ...listen, ...flags], {
      stdio: ['pipe', 'pipe', log ?? 'inherit'],
      env: log === null ? process.env : { ...process.env, NODE_OPTIONS: '--inspect-port=0' },
    });
    if (log !== null) closeSync(log);
    if (child.stdout === null) throw new Error('the safekeeper has no output');
    for await (const text of createInterface({ input: child.stdout })) {
      const ready = parseReadyLine(text);
      if (ready !== null) return new SafekeeperProcess(child, ready);
    }
    throw new Error('the safekeeper did not start');
  }

  get grpcAddr(): string {
    return this.ready.grpc ?? '';
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill(signal);
    await exited;
  }
}
