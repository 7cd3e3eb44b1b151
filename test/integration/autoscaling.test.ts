/** Computes of a size: the vm-monitor of a real compute_ctl, and the agent of the stack, with control groups of the kernel. */
import { strict as assert } from 'node:assert';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { ControlGroup, removeGroupsBelow } from '#shared/io/control-group.js';
import { restClient } from '../harness/rest.js';
import { SideCompute } from '../harness/side-compute.js';
import { query, sleep, TestStack, until, value, withClient } from '../harness/stack.js';

const MIB = 1 << 20;
const GIB = 1 << 30;
const GROUP_ROOT = '/sys/fs/cgroup';
const cacheLimit = (url: string) => value(url, 'show neon.file_cache_size_limit');

/** The other end of the vm-monitor's protocol, frame by frame. */
class Agent {
  private readonly socket: WebSocket;
  private readonly frames: string[] = [];

  constructor(addr: string) {
    this.socket = new WebSocket(`ws://${addr}/monitor`);
    this.socket.on('error', () => undefined);
    this.socket.on('message', (data) => this.frames.push((data as Buffer).toString('utf8')));
  }

  static async connect(addr: string): Promise<Agent> {
    const agent = new Agent(addr);
    await agent.opened();
    assert.equal(await agent.ask({ min: 1, max: 1 }), '{"version":1}');
    return agent;
  }

  async opened(): Promise<void> {
    await once(this.socket, 'open');
  }

  async ask(frame: unknown): Promise<string> {
    this.socket.send(JSON.stringify(frame));
    return this.receive();
  }

  receive(): Promise<string> {
    return until('a frame of the vm-monitor', 20_000, async () => this.frames.shift());
  }

  async downscale(id: number, mem: number): Promise<{ Ok: boolean; Status: string }> {
    const answer = await this.ask({ content: { target: { cpu: 0.25, mem } }, type: 'DownscaleRequest', id });
    const parsed = JSON.parse(answer) as { Ok: boolean; Status: string; id: number; type: string };
    assert.deepEqual(Object.keys(parsed), ['type', 'id', 'Ok', 'Status']);
    assert.equal(parsed.id, id);
    return parsed;
  }

  get isClosed(): boolean {
    return this.socket.readyState === WebSocket.CLOSED;
  }

  close(): void {
    this.socket.terminate();
  }
}

describe('autoscaling', function () {
  this.timeout(300_000);
  let stack: TestStack;

  before(async () => {
    // A hundredth of the usual: load is averaged over 3 s instead of a minute.
    const env = { NEON_NEON_LOCAL_AUTOSCALE_PERIOD_MS: '300', NEON_NEON_LOCAL_AUTOSCALE_WINDOW_MS: '3000' };
    stack = await TestStack.start({ safekeepers: 1, env });
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('speaks the vm-monitor’s protocol, and Postgres follows', async function () {
    const parent = `neon-test-${process.pid}`;
    const group = await ControlGroup.make(`${parent}/side`).catch(() => null);
    if (group === null) return this.skip();
    await stack.neon('branch', 'create', 'side');
    await stack.startCompute('side');
    const compute = await SideCompute.start(stack, {
      name: 'monitored',
      like: 'side',
      mode: 'Primary',
      args: ['--vm-monitor-addr', '127.0.0.1:0', '--cgroup', `${parent}/side`],
      env: { AUTOSCALING: 'true' },
      before: async () => {
        await stack.stopCompute('side');
      },
    });
    try {
      const addr = compute.ready.monitor ?? '';
      const pgdata = join(stack.repoDir, 'side/monitored/pgdata');
      const postmaster = Number(readFileSync(join(pgdata, 'postmaster.pid'), 'utf8').split('\n')[0]);
      await group.add(postmaster);
      await group.setLimits({ memoryBytes: 2 * GIB, cpus: 2 });

      const stranger = new Agent(addr);
      await stranger.opened();
      assert.match(await stranger.ask({ min: 2, max: 3 }), /^\{"error":"Received protocol version range/);
      await until('the stranger to be left', 10_000, async () => stranger.isClosed);

      const agent = await Agent.connect(addr);
      assert.equal(await agent.ask({ content: {}, type: 'HealthCheck', id: 2 }), '{"type":"HealthCheck","id":2}');
      // 75 % of the group's 2 GiB, since the agent connected.
      assert.equal(await cacheLimit(compute.url), '1536MB');
      const granted = (id: number, mem: number) =>
        agent.ask({ content: { granted: { cpu: 1, mem } }, type: 'UpscaleNotification', id });
      assert.equal(await granted(4, 4 * GIB), '{"type":"UpscaleConfirmation","id":4}');
      assert.equal(await cacheLimit(compute.url), '2997MB');

      await sleep(1_000);
      const fits = await agent.downscale(6, GIB);
      assert.ok(fits.Ok, fits.Status);
      assert.equal(
        fits.Status,
        'set file cache size to 607 MiB; set cgroup memory threshold from 3396 MiB to 785 MiB, of new total 924 MiB',
      );
      assert.equal(await cacheLimit(compute.url), '607MB');
      const tooSmall = await agent.downscale(8, 120 * MIB);
      assert.equal(tooSmall.Ok, false);
      assert.match(
        tooSmall.Status,
        /^calculated memory threshold too low: 17 MiB \(new threshold\) < \d+ MiB \(current usage\) \+ 100 MiB/,
      );
      assert.equal(await cacheLimit(compute.url), '607MB');

      // 85 % of 200 - 100 MiB may be used.
      assert.equal(await granted(10, 200 * MIB), '{"type":"UpscaleConfirmation","id":10}');
      const using = query(
        compute.url,
        "select length(x), pg_sleep(3) from (select repeat('x', 200000000) x offset 0) t",
      );
      assert.equal(await agent.receive(), '{"type":"UpscaleRequest","id":3}');
      await using;

      const next = await Agent.connect(addr);
      await until('the first agent to be left', 10_000, async () => agent.isClosed);
      next.close();
    } finally {
      await compute.stop();
      await group.remove();
      await removeGroupsBelow(parent);
    }
  });

  it('grows under load and shrinks when idle, within its bounds, and leaves no control group', async function () {
    const probe = await ControlGroup.make(`neon-test-${process.pid}`).catch(() => null);
    if (probe === null) return this.skip();
    await probe.remove();
    await stack.neon('branch', 'create', 'sized');
    await stack.neon('pg', 'create', 'sized', '--cu', '0.25-1');
    const url = (await stack.neon('pg', 'start', 'sized')).trim();
    const rest = restClient((await stack.status()).restUrl);
    const log = readFileSync(join(stack.repoDir, '..', 'daemon.log'), 'utf8');
    assert.doesNotMatch(log, /control groups cannot be written/);
    const below = await until('a control group', 20_000, async () => {
      const found = readdirSync(join(GROUP_ROOT, 'memory')).filter((name) => name.startsWith('neon-local-'));
      return found.find((name) => existsSync(join(GROUP_ROOT, 'memory', name, 'sized')));
    });
    const file = (controller: string, name: string) =>
      readFileSync(join(GROUP_ROOT, controller, below, 'sized', name), 'utf8').trim();
    const size = () => [Number(file('memory', 'memory.limit_in_bytes')) / GIB, Number(file('cpu', 'cpu.cfs_quota_us'))];
    await until('the least size', 20_000, async () => size().join() === '1,25000');
    assert.ok(file('memory', 'cgroup.procs').split('\n').length >= 5);
    await until('its file cache', 20_000, async () => (await cacheLimit(url)) === '607MB');

    let running = true;
    const load = Array.from({ length: 3 }, () =>
      withClient(url, async (client) => {
        while (running) await client.query('select count(*) from generate_series(1, 300000)');
      }),
    );
    await until('the largest size', 60_000, async () => size().join() === '4,100000');
    await until('its file cache', 20_000, async () => (await cacheLimit(url)) === '2997MB');
    assert.equal((await rest.get<{ current_cu: number }>('/pgs/sized')).current_cu, 1);
    assert.match(await stack.neon('pg', 'show', 'sized'), /size: +0\.25 to 1 CU, now 1/);
    running = false;
    await Promise.all(load);
    await until('the least size again', 60_000, async () => size().join() === '1,25000');
    await until('its file cache', 20_000, async () => (await cacheLimit(url)) === '607MB');

    await rest.post('/pgs/sized/actions', {
      action: 'start',
      autoscaling_limit_min_cu: 0.5,
      autoscaling_limit_max_cu: 2,
    });
    await until('the new least size', 20_000, async () => size().join() === '2,50000');
    await assert.rejects(stack.neon('pg', 'start', 'sized', '--cu', '2-1'), /multiples of 0\.25/);
    await stack.neon('pg', 'stop', 'sized');
    await until('the group to be gone', 20_000, async () => !existsSync(join(GROUP_ROOT, 'memory', below, 'sized')));
    assert.ok(!existsSync(join(GROUP_ROOT, 'cpu', below, 'sized')));
    assert.match(await stack.neon('pg', 'show', 'sized'), /size: +0\.5 to 2 CU\n/);
  });
});
