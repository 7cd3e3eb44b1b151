/**
 * Which children a daemon had: `run/<name>.pid` holds process id and start time. A daemon that was killed leaves them; the next one finds
 * by them what may still be ending, and makes sure that it is gone before ports and directories are used again. The start time
 * tells a re-used process id apart.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { processStartTime } from '#shared/io/files.js';
import type { Logger } from '#shared/runtime/log.js';

/**
 * Children end by themselves when their daemon dies; page servers flush for up to 15 s first. A signal any earlier would cut that short.
 */
const END_LIMIT_MS = 25_000;
const SIGNAL_LIMIT_MS = 10_000;
const POLL_MS = 50;

function startTimeNow(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
  } catch {
    return '0';
  }
}

/** At once and without waiting: between the start of a child and its pid file the daemon should not be able to do anything else. */
export function writePidFile(dir: string, name: string, pid: number): void {
  writeFileSync(join(dir, `${name}.pid`), `${pid} ${startTimeNow(pid)}\n`, { mode: 0o600 });
}

export function removePidFile(dir: string, name: string): void {
  rmSync(join(dir, `${name}.pid`), { force: true });
}

interface Leftover {
  readonly name: string;
  readonly pid: number;
  readonly startTime: string;
}

async function isAlive({ pid, startTime }: Leftover): Promise<boolean> {
  return (await processStartTime(pid)) === startTime;
}

async function waitGone(left: readonly Leftover[], limitMs: number): Promise<Leftover[]> {
  const deadline = Date.now() + limitMs;
  let alive = [...left];
  for (;;) {
    const flags = await Promise.all(alive.map(isAlive));
    alive = alive.filter((_, at) => flags[at]);
    if (alive.length === 0 || Date.now() > deadline) return alive;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function signalAll(left: readonly Leftover[], signal: NodeJS.Signals): void {
  for (const { pid } of left) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended in between.
    }
  }
}

/** Children of an earlier daemon that still run. */
export async function findLeftovers(dir: string): Promise<Leftover[]> {
  const names = (await readdir(dir).catch(() => [])).filter((name) => name.endsWith('.pid'));
  const all = await Promise.all(
    names.map(async (file): Promise<Leftover> => {
      const [pid, startTime] = (await readFile(join(dir, file), 'utf8').catch(() => '')).trim().split(' ');
      return { name: basename(file, '.pid'), pid: Number(pid), startTime: startTime ?? '' };
    }),
  );
  const alive = await Promise.all(all.map(async (entry) => entry.pid > 1 && (await isAlive(entry))));
  return all.filter((_, at) => alive[at]);
}

/** Ends what an earlier daemon left, the hard way when it takes too long, and removes the pid files. Resolves when all are gone. */
export async function endLeftovers(dir: string, log: Logger): Promise<void> {
  const left = await findLeftovers(dir);
  if (left.length > 0) {
    log.info(
      { processes: left.map(({ name, pid }) => `${name} (${pid})`) },
      'waiting for children of an earlier daemon',
    );
    let stubborn = await waitGone(left, END_LIMIT_MS);
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      signalAll(stubborn, signal);
      stubborn = await waitGone(stubborn, SIGNAL_LIMIT_MS);
    }
  }
  for (const file of await readdir(dir).catch(() => [])) await rm(join(dir, file), { force: true });
}
