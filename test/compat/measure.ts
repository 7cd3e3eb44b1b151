/**
 * What a step cost: time, processor time of all processes of a server, the most local disk that the compute took, and the most memory that
 * a service ever held. Processor time compares on a busy machine too, where time does not.
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const DISK_SAMPLE_MS = 2_000;
/** What Linux shows to programs, whatever its own clock is. */
const TICKS_PER_SECOND = 100;

export interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** The largest sample; directories that are not there count nothing. */
  readonly diskBytesMax: number;
}

export interface Watched {
  /** Of the process that all others of the server descend from. */
  readonly pid: number;
  /** Watched for its size, if given. */
  readonly dir?: string;
}

export async function measured({ pid, dir }: Watched, act: () => Promise<unknown>): Promise<Cost> {
  const startedAt = Date.now();
  const cpuBefore = cpuTicks(pid);
  let diskBytesMax = 0;
  const sample = async (): Promise<void> => {
    if (dir !== undefined) diskBytesMax = Math.max(diskBytesMax, await diskBytes(dir));
  };
  let sampling = Promise.resolve();
  const timer = setInterval(() => void (sampling = sampling.then(sample)), DISK_SAMPLE_MS);
  try {
    await act();
  } finally {
    clearInterval(timer);
    await sampling;
  }
  const seconds = (Date.now() - startedAt) / 1000;
  const cpuSeconds = (cpuTicks(pid) - cpuBefore) / TICKS_PER_SECOND;
  await sample();
  return { seconds, cpuSeconds, diskBytesMax };
}

/** Of a process, its descendants, and those of them that have ended and were waited for. */
function cpuTicks(root: number): number {
  const children = new Map<number, number[]>();
  const ticks = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const [parent, spent] = readStat(Number(name));
    ticks.set(Number(name), spent);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const sum = (pid: number): number =>
    (children.get(pid) ?? []).reduce((total, child) => total + sum(child), ticks.get(pid) ?? 0);
  return sum(root);
}

/** Parent and used ticks; zeros when the process has just ended. */
function readStat(pid: number): [number, number] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Fields behind the command: state, parent, …, utime is the twelfth, then stime, cutime, cstime.
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    return [fields[1] ?? 0, fields.slice(11, 15).reduce((total, part) => total + part, 0)];
  } catch {
    return [0, 0];
  }
}

/** What files take on disk, holes not counted. Files come and go while du reads: its exit code means nothing. */
export async function diskBytes(dir: string): Promise<number> {
  const read = promisify(execFile)('du', ['-s', '--block-size=1', dir]).catch(
    (error: unknown) => error as { stdout?: string },
  );
  return Number((await read).stdout?.split('\t')[0] ?? 0) || 0;
}

/** Peak resident memory since the process started. */
export async function peakMemoryBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

export const mebibytes = (bytes: number) => `${Math.round(bytes / (1 << 20))} MiB`;
