/** A compute beside those of the daemon: made from another's spec, changed at will. Ends with the test, as its stdin does. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { parseReadyLine, type ReadyLine } from '#shared/runtime/ready.js';
import type { TestStack } from './stack.js';

const MAIN = resolve(import.meta.dirname, '../../build/services/compute-ctl/main.js');

interface Spec {
  mode: unknown;
  cluster: { settings: { name: string; value: string }[] };
}

export class SideCompute implements AsyncDisposable {
  readonly url: string;
  readonly logPath: string;
  ready: Partial<ReadyLine> = {};
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess, url: string, logPath: string) {
    this.child = child;
    this.url = url;
    this.logPath = logPath;
  }

  /** `like`: a compute of the daemon that runs. Resolves when it answers queries. */
  static async start(
    stack: TestStack,
    options: {
      name: string;
      like: string;
      mode: unknown;
      settings?: Record<string, string>;
      args?: readonly string[];
      env?: Record<string, string>;
      /** Called when the other's spec has been read. */
      before?: () => Promise<void>;
    },
  ): Promise<SideCompute> {
    const dir = join(stack.repoDir, 'side', options.name);
    await mkdir(dir, { recursive: true });
    for (const each of [dir, join(stack.repoDir, 'side')]) await chmod(each, 0o711);
    const port = await freePort();
    const spec = JSON.parse(readFileSync(join(stack.repoDir, 'computes', options.like, 'spec.json'), 'utf8')) as Spec;
    await options.before?.();
    spec.mode = options.mode;
    const changed: Record<string, string> = { ...options.settings, port: String(port) };
    const kept = spec.cluster.settings.filter(({ name }) => !(name in changed));
    spec.cluster.settings = [...kept, ...Object.entries(changed).map(([name, value]) => ({ name, value }))];
    const specPath = join(dir, 'spec.json');
    await writeFile(specPath, JSON.stringify(spec));
    const url = `postgresql://cloud_admin@127.0.0.1:${port}/postgres`;
    const args = ['--pgdata', join(dir, 'pgdata'), '--connstr', url, '--spec-path', specPath];
    const listen = [
      '--listen-grpc',
      '127.0.0.1:0',
      '--listen-http',
      '127.0.0.1:0',
      '--pgbin',
      join(PG_BIN, 'postgres'),
    ];
    const logPath = join(stack.repoDir, 'logs', `side-${options.name}.log`);
    const log = openSync(logPath, 'a');
    const child = spawn(process.execPath, [MAIN, ...args, ...listen, ...(options.args ?? [])], {
      stdio: ['pipe', 'pipe', log],
      env: { ...process.env, ...options.env, NEON_EXIT_WITH_PARENT: '1' },
    });
    closeSync(log);
    const compute = new SideCompute(child, url, logPath);
    await compute.started();
    return compute;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  log(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGTERM');
    await once(this.child, 'exit');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  private async started(): Promise<void> {
    const lines = createInterface({ input: this.child.stdout ?? process.stdin });
    await new Promise<void>((done, fail) => {
      lines.on('line', (line) => {
        const ready = parseReadyLine(line);
        if (ready === null) return;
        this.ready = ready;
        done();
      });
      this.child.once('exit', (code) =>
        fail(new Error(`ended with ${code ?? 'a signal'}:\n${this.log().slice(-4_000)}`)),
      );
    });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
