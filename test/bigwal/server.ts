/** The page server as a process of its own, with little memory and disk; its peaks are sampled. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseReadyLine } from '#shared/runtime/ready.js';
import { cpuSeconds } from '../harness/processes.js';

const MAIN = resolve(import.meta.dirname, '../../build/services/pageserver/main.js');
const SAMPLE_MS = 250;

export function bytesBelow(dir: string): number {
  let sum = 0;
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    try {
      sum += statSync(join(entry.parentPath, entry.name)).size;
    } catch {
      // Removed meanwhile.
    }
  }
  return sum;
}

export class LimitedServer {
  readonly pg: string;
  readonly grpc: string;
  rssMax = 0;
  diskMax = 0;
  private readonly process: ChildProcess;
  private readonly workDir: string;
  private readonly timer: NodeJS.Timeout;

  private constructor(process: ChildProcess, workDir: string, ports: { pg: string; grpc: string }) {
    this.process = process;
    this.workDir = workDir;
    this.pg = ports.pg;
    this.grpc = ports.grpc;
    this.timer = setInterval(() => this.sample(), SAMPLE_MS);
  }

  static async start(root: string, flags: readonly string[]): Promise<LimitedServer> {
    const workDir = join(root, 'work');
    const args = [MAIN, '--workdir', workDir];
    for (const port of ['pg', 'grpc', 'http']) args.push(`--listen-${port}`, '127.0.0.1:0');
    const log = openSync(join(root, 'pageserver.log'), 'a');
    const env = { ...process.env, NEON_EXIT_WITH_PARENT: '1' };
    const child = spawn(process.execPath, [...args, ...flags], { stdio: ['pipe', 'pipe', log], env });
    for await (const line of createInterface({ input: child.stdout! })) {
      const ready = parseReadyLine(line);
      if (ready?.pg !== undefined && ready.grpc !== undefined) {
        child.stdout!.resume();
        return new LimitedServer(child, workDir, { pg: ready.pg, grpc: ready.grpc });
      }
    }
    throw new Error(
      `the page server did not start: ${readFileSync(join(root, 'pageserver.log'), 'utf8').slice(-2000)}`,
    );
  }

  private sample(): void {
    try {
      const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.process.pid}/status`, 'utf8'));
      this.rssMax = Math.max(this.rssMax, Number(rss?.[1] ?? 0) * 1024);
      this.diskMax = Math.max(this.diskMax, bytesBelow(this.workDir));
    } catch {
      // It has ended.
    }
  }

  /** Bytes that it has handed to the system for writing so far. */
  writtenBytes(): number {
    const io = readFileSync(`/proc/${this.process.pid}/io`, 'utf8');
    return Number(/^wchar: (\d+)/m.exec(io)?.[1] ?? 0);
  }

  cpuSeconds(): number {
    return cpuSeconds(this.process.pid ?? 0);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    if (this.process.exitCode !== null) return;
    this.process.kill('SIGKILL');
    await once(this.process, 'exit');
  }
}
