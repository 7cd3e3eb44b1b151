/** What the kernel tells of the processes of a Postgres. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const KIB = 1024;

/** The server and its children; empty when it does not run. `parentPid`: compute_ctl, so that a reused number is not mistaken for it. */
export async function postgresPids(pgdata: string, parentPid: number): Promise<number[]> {
  const text = await readFile(join(pgdata, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n')[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1 || (await statOf(pid))?.parentPid !== parentPid) return [];
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return [pid, ...children.trim().split(' ').filter(Boolean).map(Number)];
}

interface ProcessStat {
  readonly state: string;
  readonly parentPid: number;
}

async function statOf(pid: number): Promise<ProcessStat | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (text === null) return null;
  // The name, in parentheses, may hold anything.
  const [state, parentPid] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: state ?? '', parentPid: Number(parentPid) };
}

/** How many run, want to, or wait for a disk: what the kernel's load counts. */
export async function busyCount(pids: readonly number[]): Promise<number> {
  const stats = await Promise.all(pids.map(statOf));
  return stats.filter((stat) => stat?.state === 'R' || stat?.state === 'D').length;
}

/** Memory that cannot be reclaimed, where no control group counts it: shared memory once. */
export async function residentBytes(pids: readonly number[]): Promise<number> {
  const texts = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')));
  const field = (text: string, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
  const own = texts.reduce((total, text) => total + field(text, 'RssAnon'), 0);
  return (own + Math.max(0, ...texts.map((text) => field(text, 'RssShmem')))) * KIB;
}
