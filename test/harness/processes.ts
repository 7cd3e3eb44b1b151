/** What of a stack is still there: processes, listening sockets and files; and what a process has used. */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Process ids and whole command lines of everything that was started with the directory on its command line. */
export async function commandLinesOf(dir: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const lines = await Promise.all(
    pids.map(async (pid) => {
      const line = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ').trim();
      return line.includes(dir) ? `${pid} ${line}` : '';
    }),
  );
  return lines.filter((line) => line !== '');
}

/** The same, short enough for messages. */
export async function processesOf(dir: string): Promise<string[]> {
  return (await commandLinesOf(dir)).map((line) => line.slice(0, 200));
}

/** Those of the TCP ports that somebody listens on. */
export async function listeningPorts(ports: readonly number[]): Promise<number[]> {
  const tables = await Promise.all(
    ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  const listening = new Set<number>();
  for (const line of tables.join('\n').split('\n')) {
    const [, local, , state] = line.trim().split(/\s+/);
    if (state === '0A' && local !== undefined) listening.add(Number.parseInt(local.slice(local.indexOf(':') + 1), 16));
  }
  return ports.filter((port) => listening.has(port));
}

/** Files that only a running stack has. */
export async function runtimeFiles(repoDir: string): Promise<string[]> {
  const found = await Promise.all(
    ['run', 'computes'].map(async (dir) => (await readdir(join(repoDir, dir))).map((name) => join(dir, name))),
  );
  const own = (await readdir(repoDir)).filter(
    (name) => ['LOCK', 'daemon.json', 'pull'].includes(name) || name.endsWith('.tmp'),
  );
  return [...found.flat(), ...own];
}

/** Clock ticks of /proc. */
const TICKS_PER_SECOND = 100;

/** User and system time of a process that runs, all its threads together. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // Fields behind the command, which may have spaces: user time is the twelfth.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
