/**
 * Where a server's CPU goes while something runs: V8's sampling profiler, switched on from outside over the inspector. The process must
 * have been started with NODE_OPTIONS=--inspect-port=0, and its standard error go to `logPath`.
 */
import { readFileSync } from 'node:fs';
import { until } from '../harness/stack.js';

const TIMEOUT_MS = 20_000;
const INTERVAL_US = 200;
const LISTENING = /Debugger listening on (ws:\S+)/g;

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
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

function summarize({ nodes, samples, timeDeltas }: Profile, count: number): string[] {
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]));
  const selfUs = new Map<string, number>();
  samples.forEach((id, i) => {
    const frame = byId.get(id);
    if (frame === undefined) return;
    const where = frame.url.replace(/^.*\/services\//, '');
    const name = `${frame.functionName || '(anonymous)'} ${where}${where === '' ? '' : `:${frame.lineNumber + 1}`}`;
    selfUs.set(name, (selfUs.get(name) ?? 0) + (timeDeltas[i] ?? 0));
  });
  const total = [...selfUs.values()].reduce((sum, us) => sum + us, 0);
  return [...selfUs]
    .sort((a, b) => b[1] - a[1])
    .slice(0, count)
    .map(([name, us]) => `  ${((100 * us) / total).toFixed(1).padStart(5)} %  ${name}`);
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
  return { result, lines: summarize(profile as Profile, count) };
}
