/**
 * Where a server's CPU goes while something runs: V8's sampling profiler, switched on from outside over the inspector. The process must
 * have been started with NODE_OPTIONS=--inspect-port=0, and its standard error go to `logPath`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../harness/stack.js';

const TIMEOUT_MS = 20_000;
const INTERVAL_US = 200;
const LISTENING = /Debugger listening on (ws:\S+)/g;

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly children?: readonly number[];
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

type Send = (method: string, params?: Record<string, unknown>) => Promise<Record<string, unknown>>;

/** An inspector stays open once it was asked for. */
const urls = new Map<number, string>();

async function inspectorUrl(pid: number, logPath: string): Promise<string> {
  const open = urls.get(pid);
  if (open !== undefined) return open;
  const announced = () => [...readFileSync(logPath, 'utf8').matchAll(LISTENING)];
  const known = announced().length;
  process.kill(pid, 'SIGUSR1');
  const url = await until('the inspector', TIMEOUT_MS, () => {
    const found = announced();
    return Promise.resolve(found.length > known ? (found.at(-1)?.[1] ?? null) : null);
  });
  urls.set(pid, url);
  return url;
}

async function attach(pid: number, logPath: string): Promise<{ send: Send; close: () => void }> {
  const url = await inspectorUrl(pid, logPath);
  const socket = new WebSocket(url);
  const waiting = new Map<number, (result: Record<string, unknown>) => void>();
  await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }));
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data)) as { id?: number; result?: Record<string, unknown> };
    waiting.get(message.id ?? 0)?.(message.result ?? {});
  });
  let id = 0;
  const send: Send = (method, params = {}) =>
    new Promise((resolve) => {
      waiting.set(++id, resolve);
      socket.send(JSON.stringify({ id, method, params }));
    });
  return { send, close: () => socket.close() };
}

/** By node: its function, and for one of the runtime's also the function of a file for which it works. */
function namesOf(nodes: readonly ProfileNode[]): Map<number, string> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const names = new Map<number, string>();
  const visit = (node: ProfileNode, caller: string): void => {
    const { functionName, url } = node.callFrame;
    const own = functionName === '' ? '(anonymous)' : functionName;
    const isRuntime = url === '' || url.startsWith('node:');
    names.set(node.id, isRuntime && caller !== '' ? `${own}, for ${caller}` : own);
    for (const child of node.children ?? []) visit(byId.get(child)!, isRuntime ? caller : own);
  };
  if (nodes[0] !== undefined) visit(nodes[0], '');
  return names;
}

function summarize(profiles: readonly Profile[], count: number): string[] {
  const selfUs = new Map<string, number>();
  for (const { nodes, samples, timeDeltas } of profiles) {
    const names = namesOf(nodes);
    samples.forEach((id, i) => {
      const name = names.get(id) ?? '(unknown)';
      selfUs.set(name, (selfUs.get(name) ?? 0) + (timeDeltas[i] ?? 0));
    });
  }
  const total = [...selfUs.values()].reduce((sum, us) => sum + us, 0);
  return [...selfUs]
    .sort((a, b) => b[1] - a[1])
    .slice(0, count)
    .map(([name, us]) => `  ${((100 * us) / total).toFixed(1).padStart(5)} %  ${name}`);
}

/** NODE_OPTIONS with which every thread of a process leaves a profile in `dir` when it ends. */
export function leaveProfiles(dir: string): string {
  return `--cpu-prof --cpu-prof-dir=${dir} --cpu-prof-interval=${INTERVAL_US}`;
}

/** Of worker threads that have ended (names: CPU.<date>.<time>.<process>.<thread>.<number>.cpuprofile) and in which `job` ran. */
export function threadProfiles(dir: string, job: string, count: number): string[] {
  const names = readdirSync(dir).filter((name) => Number(name.split('.')[4]) > 0);
  const profiles = names.map((name) => JSON.parse(readFileSync(join(dir, name), 'utf8')) as Profile);
  const wanted = profiles.filter(({ nodes }) => nodes.some(({ callFrame }) => callFrame.functionName === job));
  return summarize(wanted, count);
}

/** Runs `act` and returns its result with the `count` functions that took most of the process' main thread. */
export async function profiled<T>(
  target: { pid: number; logPath: string },
  count: number,
  act: () => Promise<T>,
): Promise<{ result: T; lines: string[] }> {
  const { send, close } = await attach(target.pid, target.logPath);
  await send('Profiler.enable');
  await send('Profiler.setSamplingInterval', { interval: INTERVAL_US });
  await send('Profiler.start');
  const result = await act();
  const { profile } = await send('Profiler.stop');
  close();
  return { result, lines: summarize([profile as Profile], count) };
}
