/** One compute that is scaled: a busy process for Postgres, a vm-monitor of a few lines, a directory for the kernel's control groups. */
import { strict as assert } from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketServer } from 'ws';
import { silentLogger } from '#shared/runtime/log.js';
import type { Logger } from '#shared/runtime/log.js';
import { ScaledCompute, type ScaledRuntime } from './scaled-compute.js';

const GIB = 1 << 30;
const BOUNDS = { min: 1, max: 4 };
interface Frame {
  readonly type?: string;
  readonly id: number;
  readonly content: { readonly granted?: { readonly mem: number }; readonly target?: { readonly mem: number } };
}

describe('a scaled compute', function () {
  this.timeout(30_000);
  let root: string;
  let monitor: WebSocketServer;
  let busy: ChildProcess;
  let runtime: ScaledRuntime;
  let agrees: boolean;
  /** What the monitor was told and asked, in GiB. */
  let told: string[];
  let warnings: string[];
  const log = { ...silentLogger, info: () => undefined, warn: (_: object, text: string) => warnings.push(text) };

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'neon-scaled-'));
    [agrees, told, warnings] = [true, [], []];
    busy = spawn('sh', ['-c', 'while :; do :; done']);
    await writeFile(join(root, 'postmaster.pid'), `${busy.pid}\n`);
    monitor = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/monitor' });
    await once(monitor, 'listening');
    monitor.on('connection', (socket) =>
      socket.on('message', (data) => {
        const { type, id, content } = JSON.parse((data as Buffer).toString('utf8')) as Frame;
        const answer = (rest: object): void => socket.send(JSON.stringify({ ...rest, id }));
        if (type === undefined) return answer({ version: 1 });
        if (type === 'HealthCheck') return answer({ type });
        const mem = (content.granted ?? content.target)?.mem ?? 0;
        told.push(`${type === 'DownscaleRequest' ? 'down to' : 'up to'} ${mem / GIB}`);
        if (type === 'DownscaleRequest') answer({ type: 'DownscaleResult', Ok: agrees, Status: 'as it is' });
        else answer({ type: 'UpscaleConfirmation' });
      }),
    );
    const { port } = monitor.address() as AddressInfo;
    // Nobody listens at the port of Postgres: the working set is not known.
    runtime = { pid: process.pid, pgPort: 1, pgdata: root, monitorAddr: `127.0.0.1:${port}` };
  });
  afterEach(async () => {
    busy.kill('SIGKILL');
    for (const socket of monitor.clients) socket.terminate();
    monitor.close();
    await rm(root, { recursive: true, force: true });
  });

  const make = () =>
    new ScaledCompute({
      ...{ name: 'main', group: 'stack/main', groupRoot: root, bounds: BOUNDS, windowMs: 200 },
      log: log as unknown as Logger,
    });

  async function until(compute: ScaledCompute, cu: number): Promise<void> {
    for (const deadline = Date.now() + 15_000; compute.cu !== cu && Date.now() < deadline; await sleep(50)) {
      await compute.look(runtime);
      await compute.decide(runtime, BOUNDS);
    }
    assert.equal(compute.cu, cu);
  }

  it('limits a group of version 2, and asks before it takes away', async () => {
    await mkdir(join(root, 'stack/main'), { recursive: true });
    await writeFile(join(root, 'cgroup.controllers'), 'cpu memory\n');
    await writeFile(join(root, 'stack/main/cgroup.procs'), '');
    const anon = 'active_anon 0\ninactive_anon 1000\nactive_file 0\ninactive_file 0\n';
    await writeFile(join(root, 'stack/main/memory.stat'), anon);
    const limits = async () =>
      [
        await readFile(join(root, 'stack/main/memory.max'), 'utf8'),
        await readFile(join(root, 'stack/main/cpu.max'), 'utf8'),
      ].join();
    const compute = make();
    await compute.look(runtime);
    await compute.decide(runtime, BOUNDS);
    assert.equal(await limits(), `${GIB},25000 100000`);
    assert.equal(await readFile(join(root, 'stack/main/cgroup.procs'), 'utf8'), String(busy.pid));
    await until(compute, 1);
    assert.equal(await limits(), `${4 * GIB},100000 100000`);
    assert.deepEqual([told[0], told.at(-1)], ['up to 1', 'up to 4']);

    agrees = false;
    busy.kill('SIGSTOP');
    while (!told.includes('down to 3')) {
      await compute.look(runtime);
      await compute.decide(runtime, BOUNDS);
    }
    assert.equal(await limits(), `${4 * GIB},100000 100000`);
    assert.equal(compute.cu, 1);
    assert.deepEqual(warnings, []);
  });

  it('goes without limits where control groups cannot be written, and says so once', async () => {
    const compute = make();
    await until(compute, 1);
    assert.deepEqual(warnings, [
      'control groups cannot be written: only the size of the file cache follows the size of the compute',
    ]);
    busy.kill('SIGSTOP');
    await until(compute, 0.25);
    assert.deepEqual(told.slice(-3), ['down to 3', 'down to 2', 'down to 1']);
    await compute.close();
  });
});
